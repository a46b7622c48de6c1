//! The request line: the raw path and the parameters behind it. Rule: rest-api.md 1.1.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The parameters of a call, decoded. What is missing is empty, except `contenttype`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query<'a> {
    pub(super) sdkappid: Cow<'a, str>,
    pub(super) identifier: Cow<'a, str>,
    pub(super) usersig: Cow<'a, str>,
    pub(super) contenttype: Option<Cow<'a, str>>,
}

/// The query holds a `%` that starts no escape, or escapes that are no UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Undecodable;

/// Whether `path` has the form `/v4/<service>/<command>`, byte for byte: two names, not empty,
/// nothing behind them.
pub(super) fn has_form(path: &str) -> bool {
    let names = path.strip_prefix("/v4/").and_then(|rest| rest.split_once('/'));
    names.is_some_and(|(service, command)| {
        !service.is_empty() && !command.is_empty() && !command.contains('/')
    })
}

impl<'a> Query<'a> {
    /// Reads what stands behind the `?`.
    ///
    /// Order is free, empty pairs and unknown names are passed over, and of a repeated name the
    /// first value counts that is not empty. A `+` is a plus: libraries put `identifier` in raw, and no parameter may
    /// hold a space for which a form would write `+`.
    pub(super) fn parse(text: &'a str) -> Result<Self, Undecodable> {
        let mut query = Self::default();
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            let value = decode(value)?;
            let known = match &*name {
                "sdkappid" => &mut query.sdkappid,
                "identifier" => &mut query.identifier,
                "usersig" => &mut query.usersig,
                "contenttype" => query.contenttype.get_or_insert_with(|| value.clone()),
                _ => continue,
            };
            if known.is_empty() {
                *known = value;
            }
        }
        Ok(query)
    }
}

fn decode(text: &str) -> Result<Cow<'_, str>, Undecodable> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        if !is_hex(bytes.get(at + 1)) || !is_hex(bytes.get(at + 2)) {
            return Err(Undecodable);
        }
    }
    percent_decode_str(text).decode_utf8().map_err(|_| Undecodable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_two_names_behind_v4_byte_for_byte() {
        for path in ["/v4/sns/black_list_add", "/v4/SNS/x", "/v4/sns/black%5flist_add", "/v4/../x"]
        {
            assert!(has_form(path), "{path}");
        }
        for path in [
            "/",
            "/v4",
            "/v4/",
            "/v4/sns",
            "/v4/sns/",
            "/v4//black_list_add",
            "//v4/sns/black_list_add",
            "/v4/sns//black_list_add",
            "/v4/sns/black_list_add/",
            "/v4/./sns/black_list_add",
            "/v4/sns/../sns/black_list_add",
            "/V4/sns/black_list_add",
            "/v4%2Fsns/black_list_add",
            "/v3/sns/black_list_add",
        ] {
            assert!(!has_form(path), "{path}");
        }
    }

    #[test]
    fn a_usersig_may_be_raw_or_percent_encoded() {
        for text in ["usersig=a*b-c_", "usersig=a%2Ab%2dc%5F", "usersig=%61*b-c%5f"] {
            assert_eq!(Query::parse(text).unwrap().usersig, "a*b-c_", "{text}");
        }
    }

    #[test]
    fn order_is_free_and_empty_pairs_and_unknown_names_are_passed_over() {
        let expected = Query {
            sdkappid: "1".into(),
            identifier: "a+b".into(),
            usersig: "s".into(),
            contenttype: Some("json".into()),
        };
        for text in [
            "sdkappid=1&identifier=a+b&usersig=s&random=42&contenttype=json",
            "&&contenttype=json&usersig=s&&identifier=a+b&=&=x&random&sdkappid=1&",
        ] {
            assert_eq!(Query::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn names_and_values_are_case_sensitive() {
        let query = Query::parse("SDKAppID=1&identifier=Administrator").unwrap();
        assert_eq!((&*query.sdkappid, &*query.identifier), ("", "Administrator"));
    }

    #[test]
    fn of_a_repeated_name_the_first_value_counts() {
        let query = Query::parse("sdkappid=1&sdkappid=2&contenttype=json&contenttype=x").unwrap();
        assert_eq!((&*query.sdkappid, query.contenttype.as_deref()), ("1", Some("json")));
    }

    #[test]
    fn a_value_may_hold_equals_signs() {
        assert_eq!(Query::parse("usersig=a=b==").unwrap().usersig, "a=b==");
    }

    #[test]
    fn broken_escapes_and_broken_utf8_cannot_be_decoded() {
        for text in ["usersig=%", "usersig=%4", "usersig=%zz", "x=%ff", "%c3=1", "a=%C3%28"] {
            assert_eq!(Query::parse(text), Err(Undecodable), "{text}");
        }
        assert_eq!(Query::parse("identifier=%C3%A4").unwrap().identifier, "ä");
    }
}
