//! Texts that are used and never shown.

use std::fmt;

/// What stands in place of a secret wherever it could be read.
const MASK: &str = "********";

/// A secret text. Printing it, in whatever way, prints a mask.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` under cover.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Whoever asks keeps it out of logs and messages.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Secret {
    fn as_ref(&self) -> &str {
        self.reveal()
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address that is called, `http://` or `https://`. A name and password in it, and its query, are
/// used and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    /// Checks `text`: the scheme, a host, and no blank or control character anywhere.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
        let host = authority(rest).rsplit('@').next().unwrap_or_default();
        let printable = text.chars().all(|c| !c.is_whitespace() && !c.is_control());
        (printable && !host.is_empty() && !host.starts_with(':')).then(|| Self(text.to_owned()))
    }

    /// The address itself. Whoever asks keeps it out of logs and messages.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").expect("an address has a scheme");
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let query = if query.is_empty() { String::new() } else { format!("?{MASK}") };
        match authority(rest).rsplit_once('@') {
            Some((name_and_password, _)) => {
                write!(f, "{scheme}://{MASK}{}{query}", &rest[name_and_password.len()..])
            }
            None => write!(f, "{scheme}://{rest}{query}"),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What stands before the path of an address whose scheme is off.
fn authority(rest: &str) -> &str {
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hush");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "******** ******** Some(********)"
        );
        assert_eq!(secret.reveal(), "hush");
    }

    #[test]
    fn name_and_password_of_an_address_and_its_query_are_never_printed() {
        let url = Url::parse("https://me:hu@sh@example.org/at@home?x=1").unwrap();
        assert_eq!(url.to_string(), "https://********@example.org/at@home?********");
        assert_eq!(format!("{url:?}"), url.to_string());
        let url = Url::parse("https://example.org?token=hush").unwrap();
        assert_eq!(url.to_string(), "https://example.org?********");
        assert_eq!(Url::parse("http://[::1]:80/x").unwrap().to_string(), "http://[::1]:80/x");
    }

    #[test]
    fn an_address_has_a_scheme_and_a_host() {
        for text in
            ["", "example.org", "ftp://example.org", "http://", "http://me@/x", "http://:80"]
        {
            assert_eq!(Url::parse(text), None, "{text}");
        }
        assert_eq!(Url::parse("http://example.org/a b"), None);
    }
}
