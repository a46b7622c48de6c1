//! New values of a user's profile.

use serde::{Deserialize, Serialize};

use super::event::is_false;

/// New values of profile fields; absent ones stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProfileChange {
    /// `Tag_Profile_IM_Nick`, at most 500 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nick: Option<Box<str>>,
    /// `Tag_Profile_IM_Image`, at most 500 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub face_url: Option<Box<str>>,
    /// `Tag_Profile_IM_AllowType`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_type: Option<AllowType>,
    /// `Tag_Profile_IM_AdminForbidType` is `AdminForbid_Type_SendOut`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_forbidden: Option<bool>,
    /// `Tag_Profile_IM_Gender`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender: Option<Gender>,
    /// `Tag_Profile_IM_BirthDay`, like 20190419.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub birthday: Option<u32>,
    /// `Tag_Profile_IM_Location`, at most 16 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Box<str>>,
    /// `Tag_Profile_IM_SelfSignature`, at most 500 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_signature: Option<Box<str>>,
    /// `Tag_Profile_IM_Language`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<u32>,
    /// `Tag_Profile_IM_MsgSettings`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msg_settings: Option<u32>,
    /// `Tag_Profile_IM_Level`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
    /// `Tag_Profile_IM_Role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<u32>,
    /// Custom fields: tag and value; an empty value for none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom: Vec<(Box<str>, Box<str>)>,
    /// It came with an import of the account. Nobody is told.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_import: bool,
}

/// `Tag_Profile_IM_Gender`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gender {
    /// `Gender_Type_Unknown`.
    #[default]
    Unknown,
    /// `Gender_Type_Female`.
    Female,
    /// `Gender_Type_Male`.
    Male,
}

/// Whom a user lets add them as a friend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllowType {
    /// Anybody, at once.
    AllowAny,
    /// Anybody, after the user's confirmation.
    NeedConfirm,
    /// Nobody.
    DenyAny,
}
