//! Profiles through the door. Rule: rest-api.md 7.

use serde_json::{Value, json};

use crate::support::{Answer, Caller, Setup, TestNode, TestSubscriber, names};

fn people_of(setup: Setup) -> (TestNode, Caller) {
    let node = setup.set("PROFILE_CUSTOM_FIELDS", "Team").start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    (node, caller)
}

fn get(caller: &mut Caller, whom: Value, tags: Value) -> Answer {
    caller.call("profile/portrait_get", &json!({"To_Account": whom, "TagList": tags}))
}

const STANDARD: [(&str, &str); 12] = [
    ("Nick", "\"\""),
    ("Gender", "\"Gender_Type_Unknown\""),
    ("BirthDay", "0"),
    ("Location", "\"\""),
    ("SelfSignature", "\"\""),
    ("AllowType", "\"AllowType_Type_AllowAny\""),
    ("Language", "0"),
    ("Image", "\"\""),
    ("MsgSettings", "0"),
    ("AdminForbidType", "\"AdminForbid_Type_None\""),
    ("Level", "0"),
    ("Role", "0"),
];

#[test]
fn a_field_that_was_never_set_has_its_default() {
    let (_node, mut caller) = people_of(Setup::new());
    let tags: Vec<String> =
        STANDARD.iter().map(|(name, _)| format!("Tag_Profile_IM_{name}")).collect();
    let answer = get(&mut caller, json!(["amy"]), json!(tags)).ok();
    let expected: Vec<Value> = STANDARD
        .iter()
        .map(|(name, value)| {
            let value: Value = serde_json::from_str(value).expect("JSON");
            json!({"Tag": format!("Tag_Profile_IM_{name}"), "Value": value})
        })
        .collect();
    assert_eq!(answer.items()[0]["ProfileItem"], json!(expected));
    let setup = Setup::new().set("FRIEND_DEFAULT_ALLOW_TYPE", "need_confirm");
    let (_node, mut caller) = people_of(setup);
    let answer = get(&mut caller, json!(["amy"]), json!(["Tag_Profile_IM_AllowType"])).ok();
    assert_eq!(answer.items()[0]["ProfileItem"][0]["Value"], "AllowType_Type_NeedConfirm");
}

#[test]
fn every_field_is_kept_with_its_type_and_over_a_restart() {
    let (node, mut caller) = people_of(Setup::new());
    let values = [
        ("Tag_Profile_IM_Nick", json!("Ämy")),
        ("Tag_Profile_IM_Gender", json!("Gender_Type_Female")),
        ("Tag_Profile_IM_BirthDay", json!(19_990_102)),
        ("Tag_Profile_IM_Location", json!("x".repeat(16))),
        ("Tag_Profile_IM_SelfSignature", json!("x".repeat(500))),
        ("Tag_Profile_IM_AllowType", json!("AllowType_Type_DenyAny")),
        ("Tag_Profile_IM_Language", json!(u32::MAX)),
        ("Tag_Profile_IM_Image", json!("http://example.org/a")),
        ("Tag_Profile_IM_MsgSettings", json!(1)),
        ("Tag_Profile_IM_AdminForbidType", json!("AdminForbid_Type_SendOut")),
        ("Tag_Profile_IM_Level", json!(3)),
        ("Tag_Profile_IM_Role", json!(4)),
        ("Tag_Profile_Custom_Team", json!("red")),
    ];
    let set = caller.set_profile("amy", &values).ok();
    assert!(set.header("cordon-position").is_some());
    assert!(caller.set_profile("amy", &values).ok().header("cordon-position").is_none());
    let node = node.restart();
    let mut caller = node.caller();
    let tags: Vec<&str> = values.iter().map(|(tag, _)| *tag).collect();
    let expected: Vec<Value> =
        values.iter().map(|(tag, value)| json!({"Tag": tag, "Value": value})).collect();
    let answer = get(&mut caller, json!(["amy"]), json!(tags)).ok();
    assert_eq!(answer.items()[0]["ProfileItem"], json!(expected));
    node.stop();
}

#[test]
fn a_profile_is_set_as_a_whole_or_not_at_all() {
    let (_node, mut caller) = people_of(Setup::new());
    let nick = ("Tag_Profile_IM_Nick", json!("Amy"));
    for (tag, value, code) in [
        ("Tag_Profile_IM_Nick", json!("x".repeat(501)), 40601),
        ("Tag_Profile_IM_Location", json!("x".repeat(17)), 40601),
        ("Tag_Profile_IM_Gender", json!("Female"), 40605),
        ("Tag_Profile_IM_AdminForbidType", json!(""), 40605),
        ("Tag_Profile_IM_Level", json!(-1), 40605),
        ("Tag_Profile_IM_Level", json!(4_294_967_296_u64), 40605),
        ("Tag_Profile_IM_Level", json!("3"), 40610),
        ("Tag_Profile_IM_Nick", json!(3), 40610),
        ("Tag_Profile_IM_Nick", json!(null), 40610),
        ("Tag_Profile_IM_Nick", json!(["x"]), 40610),
        ("Tag_Profile_IM_Birthday", json!(3), 40009),
        ("Tag_Profile_Custom_Other", json!("x"), 40009),
        ("Nick", json!("x"), 40009),
    ] {
        let refused = caller.set_profile("amy", &[nick.clone(), (tag, value.clone())]);
        assert_eq!(refused.code(), code, "{tag} {value}");
        assert_eq!(refused.body["ErrorDisplay"], "");
    }
    for (body, code) in [
        (json!({"ProfileItem": [{"Tag": "Tag_Profile_IM_Level", "Value": 1}]}), 40001),
        (json!({"From_Account": "amy"}), 40001),
        (json!({"From_Account": "amy", "ProfileItem": []}), 40001),
        (json!({"From_Account": "amy", "ProfileItem": {}}), 40001),
        (json!({"From_Account": "amy", "ProfileItem": [7]}), 40001),
        (json!({"From_Account": "amy", "ProfileItem": [{"Value": 1}]}), 40001),
        (
            json!({"From_Account": "no body",
            "ProfileItem": [{"Tag": "Tag_Profile_IM_Level", "Value": 1}]}),
            40003,
        ),
    ] {
        assert_eq!(caller.call("profile/portrait_set", &body).code(), code, "{body}");
    }
    assert_eq!(caller.set_profile("nobody", &[nick]).code(), 40003);
    let answer = get(&mut caller, json!(["amy"]), json!(["Tag_Profile_IM_Nick"])).ok();
    assert_eq!(answer.items()[0]["ProfileItem"][0]["Value"], "", "nothing was set");
}

#[test]
fn each_account_that_is_asked_for_is_answered_by_itself() {
    let (_node, mut caller) = people_of(Setup::new());
    let tags = json!(["Tag_Profile_IM_Nick"]);
    let answer = get(&mut caller, json!(["amy", "nobody", "a b", "bob"]), tags.clone()).ok();
    assert_eq!(answer.codes(), [0, 40003, 40003, 0]);
    assert_eq!(answer.failed(), ["nobody", "a b"]);
    assert!(answer.items()[1].get("ProfileItem").is_none());
    for (whom, tags, code) in [
        (json!(null), tags.clone(), 40002),
        (json!([]), tags.clone(), 40002),
        (json!("amy"), tags.clone(), 40002),
        (json!(names("u", 101)), tags.clone(), 40001),
        (json!(["amy"]), json!(null), 40001),
        (json!(["amy"]), json!([]), 40001),
        (json!(["amy"]), json!([7]), 40001),
        (json!(["amy"]), json!(["Tag_Profile_IM_Nonsense"]), 40009),
        (json!(["amy"]), json!(["Tag_Profile_Custom_Other"]), 40009),
    ] {
        assert_eq!(get(&mut caller, whom.clone(), tags.clone()).code(), code, "{whom} {tags}");
    }
}

#[test]
fn a_change_is_told_with_what_has_changed_and_an_import_is_not() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    let import = json!({"UserID": "amy", "Nick": "Amy"});
    caller.call("im_open_login_svc/account_import", &import).ok();
    let level = ("Tag_Profile_IM_Level", json!(3));
    caller.set_profile("amy", &[("Tag_Profile_IM_Nick", json!("Amy")), level.clone()]).ok();
    caller.set_profile("amy", &[level]).ok();
    node.settle();
    let heard = subscriber.take();
    let [told] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(told.command(), "Profile.CallbackPortraitSet");
    let body = &told.body;
    assert_eq!(body["ProfileItem"], json!([{"Tag": "Tag_Profile_IM_Level", "Value": 3}]));
    assert_eq!(
        (&body["From_Account"], &body["EventTime"]),
        (&json!("amy"), &json!(1_700_000_100_000_u64))
    );
    node.stop();
}
