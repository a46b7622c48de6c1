use super::*;

shape! {
    Sample<'a> {
        from: Account<'a> = "From_Account",
        to: List<Listed<'a>> = "To_Account",
        items: List<Object<Item<'a>>> = "Items",
        max: Scalar<'a> = "MaxLimited",
    }
}

shape! {
    Item<'a> {
        user: Account<'a> = "UserID",
    }
}

fn failure(body: &str) -> Option<ErrorCode> {
    parse::<Sample<'_>>(body).err()
}

#[test]
fn only_a_json_object_is_a_body() {
    for body in [
        "",
        " ",
        "[]",
        "null",
        "7",
        "\"x\"",
        "{",
        "{}x",
        "{} {}",
        "{\"a\":}",
        "{'a':1}",
        "{\"a\":1,}",
        "[{\"From_Account\":\"amy\"}]",
        "{\"x\":\"\u{1}\"}",
        "\u{feff}{}",
    ] {
        assert_eq!(failure(body), Some(code::BODY_NOT_JSON), "{body:?}");
    }
    assert_eq!(failure(" { } \n"), None);
}

#[test]
fn an_account_that_is_no_string_is_refused_wherever_it_stands() {
    for body in [
        r#"{"From_Account":7}"#,
        r#"{"From_Account":true}"#,
        r#"{"From_Account":["amy"]}"#,
        r#"{"From_Account":{}}"#,
        r#"{"From_Account":1.5}"#,
        r#"{"To_Account":[1001]}"#,
        r#"{"To_Account":["bob",null]}"#,
        r#"{"To_Account":[["bob"]]}"#,
        r#"{"Items":[{"UserID":"a"},{"UserID":7}]}"#,
    ] {
        assert_eq!(failure(body), Some(code::ACCOUNT_NOT_TEXT), "{body}");
    }
    let far_behind = format!(r#"{{"To_Account":[{}7]}}"#, "\"b\",".repeat(2000));
    assert_eq!(failure(&far_behind), Some(code::ACCOUNT_NOT_TEXT));
}

#[test]
fn broken_json_counts_before_an_account_of_a_wrong_type() {
    assert_eq!(failure(r#"{"From_Account":7"#), Some(code::BODY_NOT_JSON));
    assert_eq!(failure(r#"{"To_Account":[7,}"#), Some(code::BODY_NOT_JSON));
}

#[test]
fn null_is_not_given_and_unknown_fields_are_ignored() {
    let body = r#"{"From_Account":null,"To_Account":null,"MaxLimited":null,"X":{"Y":[1]}}"#;
    let sample: Sample<'_> = parse(body).unwrap();
    assert_eq!(sample.from.name(), None);
    assert_eq!(sample.to.items(), Ok(None));
    assert_eq!(sample.max.integer(), Ok(None));
}

#[test]
fn other_fields_of_a_wrong_type_are_the_commands_own_business() {
    let sample: Sample<'_> = parse(r#"{"To_Account":"bob","Items":[7],"MaxLimited":"7"}"#).unwrap();
    assert_eq!(sample.to.items(), Err(Malformed));
    assert_eq!(sample.items.items().unwrap().unwrap()[0].given().err(), Some(Malformed));
    assert_eq!(sample.max.integer(), Err(Malformed));
    let number = |text: &str| {
        let body = format!(r#"{{"MaxLimited":{text}}}"#);
        parse::<Sample<'_>>(&body).unwrap().max.integer()
    };
    assert_eq!(number("-3"), Ok(Some(-3)));
    for text in ["1.0", "18446744073709551615", "[]", "{}", "true"] {
        assert_eq!(number(text), Err(Malformed), "{text}");
    }
}

#[test]
fn of_a_repeated_field_the_last_one_counts() {
    let sample: Sample<'_> = parse(r#"{"From_Account":7,"From_Account":"amy"}"#).unwrap();
    assert_eq!(sample.from.name(), Some("amy"));
}

#[test]
fn escapes_are_read_in_names_and_texts() {
    let sample: Sample<'_> = parse(r#"{"From\u005fAccount":"\u0061my"}"#).unwrap();
    assert_eq!(sample.from.name(), Some("amy"));
}
