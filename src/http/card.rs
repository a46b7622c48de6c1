//! What a caller writes about one wanted friend: the entries of `friend_add` and `friend_import`,
//! parsed into a [`Card`]. Limits: rest-api.md 2.1.

use std::collections::BTreeSet;

use super::batch::ENTRIES_MAX;
use super::shape::{Account, List, Malformed, Object, Scalar, TextOrTexts, shape};
use crate::domain::{Card, CardChange};

/// The longest remark, in bytes.
const REMARK_BYTES_MAX: usize = 96;

/// The longest words of a request, in bytes.
const WORDING_BYTES_MAX: usize = 256;

/// The longest name of a friend group, in bytes.
const GROUP_BYTES_MAX: usize = 30;

/// The longest value of a custom field, in bytes.
const CUSTOM_BYTES_MAX: usize = 500;

/// The most fields that one list may name, however often it repeats one.
pub(super) const FIELDS_MAX: usize = 100;

/// The longest keyword of a source and name of a custom field, in letters.
const KEYWORD_LETTERS_MAX: usize = 8;

/// The tags of the standard fields of a friend. Rule: rest-api.md 4.1.
pub(super) const GROUP: &str = "Tag_SNS_IM_Group";
/// See [`GROUP`].
pub(super) const REMARK: &str = "Tag_SNS_IM_Remark";
/// See [`GROUP`].
pub(super) const ADD_SOURCE: &str = "Tag_SNS_IM_AddSource";
/// See [`GROUP`].
pub(super) const ADD_WORDING: &str = "Tag_SNS_IM_AddWording";
/// See [`GROUP`].
pub(super) const ADD_TIME: &str = "Tag_SNS_IM_AddTime";

const SOURCE_PREFIX: &str = "AddSource_Type_";
/// What custom fields of friends begin with.
pub(super) const CUSTOM_PREFIX: &str = "Tag_SNS_Custom_";

shape! {
    /// An entry of `friend_add`: it names one group, as a text.
    Wanted<'a> {
        to: Account<'a> = "To_Account",
        source: Scalar<'a> = "AddSource",
        remark: Scalar<'a> = "Remark",
        group: Scalar<'a> = "GroupName",
        wording: Scalar<'a> = "AddWording",
    }
}

shape! {
    /// An entry of `friend_import`: it names any number of groups, in a list.
    Imported<'a> {
        to: Account<'a> = "To_Account",
        source: Scalar<'a> = "AddSource",
        remark: Scalar<'a> = "Remark",
        remark_at: Scalar<'a> = "RemarkTime",
        groups: List<Scalar<'a>> = "GroupName",
        wording: Scalar<'a> = "AddWording",
        added_at: Scalar<'a> = "AddTime",
        custom: List<Object<TagValue<'a>>> = "CustomItem",
    }
}

shape! {
    /// A field with its value.
    TagValue<'a> {
        tag: Scalar<'a> = "Tag",
        value: Scalar<'a> = "Value",
    }
}

shape! {
    /// An entry of `friend_update`.
    Updated<'a> {
        to: Account<'a> = "To_Account",
        fields: List<Object<NewValue<'a>>> = "SnsItem",
    }
}

shape! {
    /// A field and what it shall be from now on.
    NewValue<'a> {
        tag: Scalar<'a> = "Tag",
        value: TextOrTexts<'a> = "Value",
    }
}

impl Updated<'_> {
    /// The new values; an error if the entry is malformed or has a field that may not be changed.
    pub(super) fn change(&self, declared: &[String]) -> Result<CardChange, Malformed> {
        let mut change = CardChange::default();
        let fields = self.fields.items()?.unwrap_or_default();
        if fields.is_empty() || fields.len() > FIELDS_MAX {
            return Err(Malformed);
        }
        for field in fields {
            let field = field.given()?;
            match field.tag.text()?.unwrap_or_default() {
                REMARK => change.remark = Some(field.text(REMARK_BYTES_MAX)?.into()),
                GROUP => change.groups = Some(field.groups()?),
                tag if is_declared(tag, declared) => {
                    let value: Box<str> = match &field.value {
                        TextOrTexts::One(Scalar::Integer(value)) => value.to_string().into(),
                        _ => field.text(CUSTOM_BYTES_MAX)?.into(),
                    };
                    set(&mut change.custom, tag, value);
                }
                _ => return Err(Malformed),
            }
        }
        Ok(change)
    }
}

impl NewValue<'_> {
    fn text(&self, bytes_max: usize) -> Result<&str, Malformed> {
        match &self.value {
            TextOrTexts::One(value) => Ok(value.text()?.ok_or(Malformed)?)
                .and_then(|text| if text.len() <= bytes_max { Ok(text) } else { Err(Malformed) }),
            TextOrTexts::Many(_) => Err(Malformed),
        }
    }

    /// A bare text counts as a list of one. Rule: rest-api.md 4.4.
    fn groups(&self) -> Result<Vec<Box<str>>, Malformed> {
        match &self.value {
            TextOrTexts::One(value) => groups([value]),
            TextOrTexts::Many(values) => groups(values.items()?.ok_or(Malformed)?),
        }
    }
}

/// The names of friend groups, each once: of as many as one call may name.
pub(super) fn groups<'a>(
    names: impl IntoIterator<Item = &'a Scalar<'a>, IntoIter: ExactSizeIterator>,
) -> Result<Vec<Box<str>>, Malformed> {
    let names = names.into_iter();
    if names.len() > ENTRIES_MAX {
        return Err(Malformed);
    }
    let mut groups: Vec<Box<str>> = Vec::new();
    // A body has room for as many names as would take seconds to be compared each with each.
    let mut known = BTreeSet::new();
    for name in names {
        let name = text(name, GROUP_BYTES_MAX)?;
        if name.is_empty() {
            return Err(Malformed);
        }
        if known.insert(name) {
            groups.push(name.into());
        }
    }
    Ok(groups)
}

/// Whether a custom field was declared for the app. Rule: rest-api.md 4.1.
fn is_declared(tag: &str, declared: &[String]) -> bool {
    tag.strip_prefix(CUSTOM_PREFIX).is_some_and(|name| declared.iter().any(|known| known == name))
}

/// Sets a custom field, the only one of its tag.
pub(super) fn set(fields: &mut CustomFields, tag: &str, value: Box<str>) {
    match fields.iter_mut().find(|(known, _)| **known == *tag) {
        Some((_, known)) => *known = value,
        None => fields.push((tag.into(), value)),
    }
}

shape! {
    /// An entry of `friend_response`. Rule: extensions.md 2.
    Response<'a> {
        to: Account<'a> = "To_Account",
        remark: Scalar<'a> = "Remark",
        group: Scalar<'a> = "TagName",
        action: Scalar<'a> = "ResponseAction",
    }
}

impl Response<'_> {
    /// Remark and groups of the new friend; an error if the entry is malformed.
    pub(super) fn answer(&self) -> Result<(Box<str>, Vec<Box<str>>), Malformed> {
        let group = text(&self.group, GROUP_BYTES_MAX)?;
        let groups = if group.is_empty() { Vec::new() } else { vec![group.into()] };
        Ok((text(&self.remark, REMARK_BYTES_MAX)?.into(), groups))
    }
}

impl Wanted<'_> {
    /// The friend's record; an error if the entry is malformed.
    pub(super) fn card(&self) -> Result<Card, Malformed> {
        let group = text(&self.group, GROUP_BYTES_MAX)?;
        Ok(Card {
            remark: text(&self.remark, REMARK_BYTES_MAX)?.into(),
            // Libraries send an empty name when the caller gave none.
            groups: if group.is_empty() { Vec::new() } else { vec![group.into()] },
            source: source(&self.source)?.into(),
            wording: text(&self.wording, WORDING_BYTES_MAX)?.into(),
            ..Card::default()
        })
    }
}

impl Imported<'_> {
    /// The friend's record; an error if the entry is malformed.
    pub(super) fn card(&self, declared: &[String]) -> Result<Card, Malformed> {
        let groups = groups(self.groups.items()?.unwrap_or_default())?;
        Ok(Card {
            remark: text(&self.remark, REMARK_BYTES_MAX)?.into(),
            groups,
            source: source(&self.source)?.into(),
            wording: text(&self.wording, WORDING_BYTES_MAX)?.into(),
            custom: custom(&self.custom, declared)?,
            added_at: seconds(&self.added_at)?,
            remark_at: seconds(&self.remark_at)?,
        })
    }
}

/// A text of at most `bytes_max` bytes; empty when not given.
fn text<'a>(field: &'a Scalar<'_>, bytes_max: usize) -> Result<&'a str, Malformed> {
    let text = field.text()?.unwrap_or_default();
    if text.len() <= bytes_max { Ok(text) } else { Err(Malformed) }
}

/// `AddSource_Type_` and a keyword.
fn source<'a>(field: &'a Scalar<'_>) -> Result<&'a str, Malformed> {
    let source = field.text()?.unwrap_or_default();
    if is_keyword_behind(SOURCE_PREFIX, source) { Ok(source) } else { Err(Malformed) }
}

fn is_keyword_behind(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|keyword| {
        (1..=KEYWORD_LETTERS_MAX).contains(&keyword.len())
            && keyword.bytes().all(|byte| byte.is_ascii_alphabetic())
    })
}

/// A moment in seconds since 1970 that fits 31 bits, as answers must. 0 is what libraries send for
/// "not set".
fn seconds(field: &Scalar<'_>) -> Result<Option<u32>, Malformed> {
    match field.number::<i32>()? {
        None | Some(0) => Ok(None),
        Some(value) => value.try_into().map(Some).map_err(|_| Malformed),
    }
}

type CustomFields = Vec<(Box<str>, Box<str>)>;

/// Custom fields; of a repeated tag the last one counts.
fn custom(
    list: &List<Object<TagValue<'_>>>,
    declared: &[String],
) -> Result<CustomFields, Malformed> {
    let items = list.items()?.unwrap_or_default();
    if items.len() > FIELDS_MAX {
        return Err(Malformed);
    }
    let mut fields = CustomFields::new();
    for item in items {
        let item = item.given()?;
        let tag = item.tag.text()?.unwrap_or_default();
        if !is_declared(tag, declared) {
            return Err(Malformed);
        }
        let value: Box<str> = match &item.value {
            Scalar::Integer(value) => value.to_string().into(),
            Scalar::Text(value) if value.len() <= CUSTOM_BYTES_MAX => (**value).into(),
            Scalar::Text(_) | Scalar::Absent | Scalar::Other => return Err(Malformed),
        };
        set(&mut fields, tag, value);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::shape::parse;

    fn wanted(json: &str) -> Result<Card, Malformed> {
        parse::<Wanted<'_>>(json).unwrap().card()
    }

    fn imported(json: &str) -> Result<Card, Malformed> {
        parse::<Imported<'_>>(json).unwrap().card(&["a".to_owned(), "b".to_owned()])
    }

    #[test]
    fn a_source_is_the_prefix_and_one_to_eight_letters() {
        for source in ["AddSource_Type_a", "AddSource_Type_testTEST"] {
            assert!(wanted(&format!(r#"{{"AddSource":"{source}"}}"#)).is_ok(), "{source}");
        }
        for json in [
            r"{}",
            r#"{"AddSource":null}"#,
            r#"{"AddSource":7}"#,
            r#"{"AddSource":""}"#,
            r#"{"AddSource":"test"}"#,
            r#"{"AddSource":"AddSource_Type_"}"#,
            r#"{"AddSource":"AddSource_Type_ninechars"}"#,
            r#"{"AddSource":"AddSource_Type_a1"}"#,
            r#"{"AddSource":"addsource_type_a"}"#,
        ] {
            assert_eq!(wanted(json), Err(Malformed), "{json}");
        }
    }

    #[test]
    fn texts_have_limits_in_bytes() {
        let with = |field: &str, value: &str| {
            wanted(&format!(r#"{{"AddSource":"AddSource_Type_a","{field}":"{value}"}}"#))
        };
        for (field, max) in [("Remark", 96), ("AddWording", 256), ("GroupName", 30)] {
            assert!(with(field, &"ä".repeat(max / 2)).is_ok(), "{field}");
            assert_eq!(with(field, &"ä".repeat(max / 2 + 1)), Err(Malformed), "{field}");
        }
    }

    #[test]
    fn a_group_is_a_text_when_adding_and_a_list_when_importing() {
        let text = r#"{"AddSource":"AddSource_Type_a","GroupName":"work"}"#;
        let list = r#"{"AddSource":"AddSource_Type_a","GroupName":["work","chess","work"]}"#;
        assert_eq!(wanted(text).unwrap().groups, vec!["work".into()]);
        assert_eq!(wanted(list), Err(Malformed));
        assert_eq!(imported(list).unwrap().groups, vec!["work".into(), "chess".into()]);
        assert_eq!(imported(text), Err(Malformed));
    }

    #[test]
    fn times_are_seconds_below_two_to_the_31_and_zero_is_none() {
        let at = |value: &str| {
            imported(&format!(r#"{{"AddSource":"AddSource_Type_a","AddTime":{value}}}"#))
                .map(|card| card.added_at)
        };
        assert_eq!(at("1600000000"), Ok(Some(1_600_000_000)));
        assert_eq!(at("2147483647"), Ok(Some(2_147_483_647)));
        assert_eq!((at("0"), at("null")), (Ok(None), Ok(None)));
        for value in ["2147483648", "-1", "1.5", "\"1600000000\"", "true"] {
            assert_eq!(at(value), Err(Malformed), "{value}");
        }
    }

    /// What is beyond the limit is not left out without a word: the last value would not count.
    #[test]
    fn lists_of_fields_and_groups_that_are_too_long_are_malformed() {
        let with = |list: &str, entry: &str, count: usize| {
            let list = format!("\"{list}\":[{}]", vec![entry; count].join(","));
            format!(r#"{{"AddSource":"AddSource_Type_a",{list}}}"#)
        };
        let field = r#"{"Tag":"Tag_SNS_Custom_a","Value":"x"}"#;
        for (list, entry, max) in
            [("CustomItem", field, FIELDS_MAX), ("GroupName", "\"work\"", ENTRIES_MAX)]
        {
            assert!(imported(&with(list, entry, max)).is_ok(), "{list}");
            assert_eq!(imported(&with(list, entry, max + 1)), Err(Malformed), "{list}");
        }
        let updated = |count: usize| {
            let groups = vec!["\"work\""; count].join(",");
            let field = format!(r#"{{"Tag":"Tag_SNS_IM_Group","Value":[{groups}]}}"#);
            let json = format!(r#"{{"SnsItem":[{field}]}}"#);
            parse::<Updated<'_>>(&json).unwrap().change(&[])
        };
        assert!(updated(ENTRIES_MAX).is_ok());
        assert_eq!(updated(ENTRIES_MAX + 1), Err(Malformed));
    }

    #[test]
    fn custom_fields_take_texts_and_integers() {
        let with = |custom: &str| {
            imported(&format!(r#"{{"AddSource":"AddSource_Type_a","CustomItem":{custom}}}"#))
                .map(|card| card.custom)
        };
        let fields = with(
            r#"[{"Tag":"Tag_SNS_Custom_a","Value":"x"},{"Tag":"Tag_SNS_Custom_b","Value":3}]"#,
        );
        let expected: CustomFields =
            vec![("Tag_SNS_Custom_a".into(), "x".into()), ("Tag_SNS_Custom_b".into(), "3".into())];
        assert_eq!(fields, Ok(expected));
        for custom in [
            r#"{"Tag":"Tag_SNS_Custom_a","Value":"x"}"#,
            r#"["Tag_SNS_Custom_a"]"#,
            r#"[{"Tag":"Tag_SNS_IM_Remark","Value":"x"}]"#,
            r#"[{"Tag":"Tag_SNS_Custom_a"}]"#,
            r#"[{"Tag":"Tag_SNS_Custom_a","Value":["x"]}]"#,
            r#"[{"Tag":"Tag_SNS_Custom_c","Value":"not declared"}]"#,
        ] {
            assert_eq!(with(custom), Err(Malformed), "{custom}");
        }
    }
}
