//! What the API, its webhooks and the settings call things, and how they write values: the fields of a
//! profile, what a subscription can ask for, and its words. Rules: rest-api.md 7.1 and webhooks.md 1.

mod command;

use serde::Serialize;

pub use self::command::{
    ASKED_COMMANDS, BeforeCommand, CallbackCommand, REQUEST_OVER_LIMIT, STATE_CHANGE, TOLD_COMMANDS,
};
use crate::domain::{AllowType, FailurePolicy, Fallback, Format, Gender, Profile, ProfileChange};

/// `Tag_Profile_IM_Nick`.
pub const NICK: &str = "Tag_Profile_IM_Nick";
/// `Tag_Profile_IM_Gender`.
pub const GENDER: &str = "Tag_Profile_IM_Gender";
/// `Tag_Profile_IM_BirthDay`, with a capital D.
pub const BIRTHDAY: &str = "Tag_Profile_IM_BirthDay";
/// `Tag_Profile_IM_Location`.
pub const LOCATION: &str = "Tag_Profile_IM_Location";
/// `Tag_Profile_IM_SelfSignature`.
pub const SELF_SIGNATURE: &str = "Tag_Profile_IM_SelfSignature";
/// `Tag_Profile_IM_AllowType`.
pub const ALLOW_TYPE: &str = "Tag_Profile_IM_AllowType";
/// `Tag_Profile_IM_Language`.
pub const LANGUAGE: &str = "Tag_Profile_IM_Language";
/// `Tag_Profile_IM_Image`.
pub const IMAGE: &str = "Tag_Profile_IM_Image";
/// `Tag_Profile_IM_MsgSettings`.
pub const MSG_SETTINGS: &str = "Tag_Profile_IM_MsgSettings";
/// `Tag_Profile_IM_AdminForbidType`.
pub const ADMIN_FORBID_TYPE: &str = "Tag_Profile_IM_AdminForbidType";
/// `Tag_Profile_IM_Level`.
pub const LEVEL: &str = "Tag_Profile_IM_Level";
/// `Tag_Profile_IM_Role`.
pub const ROLE: &str = "Tag_Profile_IM_Role";
/// What custom fields of profiles begin with.
pub const CUSTOM_PREFIX: &str = "Tag_Profile_Custom_";

/// The names of [`AllowType`]s.
pub const ALLOW_TYPES: [(&str, AllowType); 3] = [
    ("AllowType_Type_AllowAny", AllowType::AllowAny),
    ("AllowType_Type_NeedConfirm", AllowType::NeedConfirm),
    ("AllowType_Type_DenyAny", AllowType::DenyAny),
];

/// The names of [`Gender`]s.
pub const GENDERS: [(&str, Gender); 3] = [
    ("Gender_Type_Unknown", Gender::Unknown),
    ("Gender_Type_Female", Gender::Female),
    ("Gender_Type_Male", Gender::Male),
];

/// The names of whether an administrator forbids a user to send friend requests.
pub const ADMIN_FORBID_TYPES: [(&str, bool); 2] =
    [("AdminForbid_Type_None", false), ("AdminForbid_Type_SendOut", true)];

/// The names of [`Format`]s.
pub const FORMATS: [(&str, Format); 2] =
    [("reference", Format::Reference), ("standard", Format::Standard)];

/// The names of [`FailurePolicy`]s.
pub const FAILURE_POLICIES: [(&str, FailurePolicy); 3] = [
    ("hold-user", FailurePolicy::HoldUser),
    ("skip", FailurePolicy::Skip),
    ("halt", FailurePolicy::Halt),
];

/// The names of [`Fallback`]s.
pub const FALLBACKS: [(&str, Fallback); 2] = [("allow", Fallback::Allow), ("deny", Fallback::Deny)];

/// A field with its value, as JSON has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Item<'a> {
    /// The field.
    #[serde(rename = "Tag")]
    pub tag: &'a str,
    /// Its value.
    #[serde(rename = "Value")]
    pub value: Value<'a>,
}

/// A text or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value<'a> {
    /// A text.
    Text(&'a str),
    /// A number.
    Number(u32),
}

/// The name of `value` in `names`, which has all.
pub fn name<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name)
}

/// What `name` means in `names`.
pub fn meaning<T: Copy>(names: &[(&str, T)], text: &str) -> Option<T> {
    names.iter().find(|(known, _)| *known == text).map(|(_, value)| *value)
}

/// The fields that got new values.
pub fn of_change(change: &ProfileChange) -> Vec<Item<'_>> {
    let standard = [
        (NICK, change.nick.as_deref().map(Value::Text)),
        (IMAGE, change.face_url.as_deref().map(Value::Text)),
        (ALLOW_TYPE, change.allow_type.map(|value| Value::Text(name(&ALLOW_TYPES, &value)))),
        (
            ADMIN_FORBID_TYPE,
            change.requests_forbidden.map(|value| Value::Text(name(&ADMIN_FORBID_TYPES, &value))),
        ),
        (GENDER, change.gender.map(|value| Value::Text(name(&GENDERS, &value)))),
        (BIRTHDAY, change.birthday.map(Value::Number)),
        (LOCATION, change.location.as_deref().map(Value::Text)),
        (SELF_SIGNATURE, change.self_signature.as_deref().map(Value::Text)),
        (LANGUAGE, change.language.map(Value::Number)),
        (MSG_SETTINGS, change.msg_settings.map(Value::Number)),
        (LEVEL, change.level.map(Value::Number)),
        (ROLE, change.role.map(Value::Number)),
    ];
    let standard =
        standard.into_iter().filter_map(|(tag, value)| Some(Item { tag, value: value? }));
    let custom = change.custom.iter().map(|(tag, value)| Item { tag, value: Value::Text(value) });
    standard.chain(custom).collect()
}

/// The value of the field `tag`; of one that was never set its default, which for
/// [`ALLOW_TYPE`] is the app's. Nothing for a tag that does not exist.
pub fn of_profile<'a>(
    profile: &'a Profile,
    tag: &str,
    default_allow_type: AllowType,
) -> Option<Value<'a>> {
    Some(match tag {
        NICK => Value::Text(&profile.nick),
        IMAGE => Value::Text(&profile.face_url),
        ALLOW_TYPE => {
            let value = profile.allow_type.unwrap_or(default_allow_type);
            Value::Text(name(&ALLOW_TYPES, &value))
        }
        ADMIN_FORBID_TYPE => Value::Text(name(&ADMIN_FORBID_TYPES, &profile.requests_forbidden)),
        GENDER => Value::Text(name(&GENDERS, &profile.gender)),
        BIRTHDAY => Value::Number(profile.birthday),
        LOCATION => Value::Text(&profile.location),
        SELF_SIGNATURE => Value::Text(&profile.self_signature),
        LANGUAGE => Value::Number(profile.language),
        MSG_SETTINGS => Value::Number(profile.msg_settings),
        LEVEL => Value::Number(profile.level),
        ROLE => Value::Number(profile.role),
        tag if tag.starts_with(CUSTOM_PREFIX) => Value::Text(profile.custom_field(tag)),
        _ => return None,
    })
}
