//! Where a subscriber is reached: the address of one call, with its query and signature; pure.
//! Rule: webhooks.md 2 and 5.

use std::fmt;
use std::fmt::Write;

use awc::http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::command::CallbackCommand;
use crate::domain::{AppId, Timestamp};
use crate::journal::Origin;

/// What stands in the query as it is: addresses and platform names stay readable, as in the
/// samples of the reference, and nothing can break out of its parameter.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// An app's webhook address and the token that signs its calls.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The configured URL and the character that joins the query to it.
    base: String,
    secure: bool,
    token: Option<String>,
}

/// Why a text is no address of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL.
    #[error("it is not a URL")]
    Shape,
    /// Neither `http://` nor `https://`.
    #[error("it has to begin with http:// or https://")]
    Scheme,
    /// No host, or a user name in front of it.
    #[error("it needs a host, without a user name")]
    Host,
    /// A `#` and what follows it is never sent.
    #[error("it has a fragment")]
    Fragment,
}

impl Endpoint {
    /// Takes a URL and, if calls are to be signed, the token.
    ///
    /// A URL with a query of its own is continued with `&`. Errors: [`EndpointError`].
    pub fn parse(url: &str, token: Option<&str>) -> Result<Self, EndpointError> {
        if url.contains('#') {
            return Err(EndpointError::Fragment);
        }
        let uri: Uri = url.parse().map_err(|_| EndpointError::Shape)?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(EndpointError::Scheme),
        };
        let authority = uri.authority().ok_or(EndpointError::Host)?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(EndpointError::Host);
        }
        let mut base = url.to_owned();
        match uri.query() {
            None if url.ends_with('?') => {}
            None => base.push('?'),
            Some(query) if query.is_empty() || query.ends_with('&') => {}
            Some(_) => base.push('&'),
        }
        Ok(Self { base, secure, token: token.map(str::to_owned) })
    }

    /// The same subscriber at another address. Errors: [`EndpointError`].
    pub fn elsewhere(&self, url: &str) -> Result<Self, EndpointError> {
        Self::parse(url, self.token.as_deref())
    }

    /// Whether calls go over TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The address of one call made at `now`: the configured URL with the query of the reference,
    /// in the order of its samples.
    pub fn address(
        &self,
        app: AppId,
        command: CallbackCommand,
        by: &Origin,
        now: Timestamp,
    ) -> String {
        let ip = utf8_percent_encode(&by.ip, ESCAPED);
        let platform = utf8_percent_encode(&by.platform, ESCAPED);
        let mut address = format!(
            "{}SdkAppid={app}&CallbackCommand={command}&contenttype=json&ClientIP={ip}&OptPlatform={platform}",
            self.base
        );
        if let Some(token) = &self.token {
            let time = now.unix_seconds();
            write!(address, "&Sign={}&RequestTime={time}", sign(token, time))
                .expect("a String takes everything");
        }
        address
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("base", &self.base)
            .field("signed", &self.token.is_some())
            .finish()
    }
}

/// The signature of a call at `request_time`: the SHA-256 of the token and the time, in
/// lower-case hex. Rule: webhooks.md 5.
fn sign(token: &str, request_time: u32) -> String {
    let hash = Sha256::digest(format!("{token}{request_time}"));
    let mut hex = String::with_capacity(2 * hash.len());
    for byte in hash {
        write!(hex, "{byte:02x}").expect("a String takes everything");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_669_872_112_999);

    fn address(url: &str, token: Option<&str>, ip: &str) -> String {
        let endpoint = Endpoint::parse(url, token).expect("an address of a test");
        let by = Origin {
            operator: "administrator".into(),
            request: uuid::Uuid::nil(),
            ip: ip.into(),
            platform: "RESTAPI".into(),
        };
        endpoint.address(AppId(1_400_000_001), CallbackCommand::BlackListAdd, &by, NOW)
    }

    #[test]
    fn the_query_is_the_one_of_the_reference() {
        assert_eq!(
            address("http://receiver.example:8080/im", None, "127.0.0.1"),
            "http://receiver.example:8080/im?SdkAppid=1400000001&CallbackCommand=Sns.CallbackBlackListAdd&contenttype=json&ClientIP=127.0.0.1&OptPlatform=RESTAPI"
        );
    }

    #[test]
    fn the_signature_agrees_with_the_test_vector_and_comes_last() {
        assert_eq!(
            address("https://receiver.example", Some("xxxxyyyy"), "10.0.0.7"),
            "https://receiver.example?SdkAppid=1400000001&CallbackCommand=Sns.CallbackBlackListAdd&contenttype=json&ClientIP=10.0.0.7&OptPlatform=RESTAPI&Sign=17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061&RequestTime=1669872112"
        );
        assert_eq!(
            sign("xxxyyy", 1_669_872_112),
            "e78a85473bed2cdc8d6fa8c4d5a4ba4735fd64156e15a99516b9890293e135de"
        );
    }

    #[test]
    fn a_query_of_the_url_itself_is_continued() {
        let cases = [
            ("http://a/b?tenant=7", "http://a/b?tenant=7&SdkAppid="),
            ("http://a/b?tenant=7&", "http://a/b?tenant=7&SdkAppid="),
            ("http://a/b?", "http://a/b?SdkAppid="),
            ("http://a", "http://a?SdkAppid="),
        ];
        for (url, begin) in cases {
            let address = address(url, None, "::1");
            assert!(address.starts_with(begin), "{address}");
            assert!(address.contains("&ClientIP=::1&"), "{address}");
            assert!(address.parse::<Uri>().is_ok(), "{address}");
        }
    }

    #[test]
    fn a_value_stays_inside_its_parameter() {
        assert!(address("http://a", None, "1&Sign=x #").contains("&ClientIP=1%26Sign%3Dx%20%23&"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let cases = [
            ("", EndpointError::Shape),
            ("http://", EndpointError::Shape),
            ("/im", EndpointError::Scheme),
            ("receiver.example", EndpointError::Scheme),
            ("ftp://receiver.example/", EndpointError::Scheme),
            ("http://amy@receiver.example/", EndpointError::Host),
            ("http://receiver.example/#top", EndpointError::Fragment),
        ];
        for (url, error) in cases {
            assert_eq!(Endpoint::parse(url, None), Err(error), "{url}");
        }
    }

    #[test]
    fn the_token_is_never_printed() {
        let endpoint = Endpoint::parse("http://a", Some("secret-token")).expect("an address");
        assert!(!format!("{endpoint:?}").contains("secret-token"));
    }
}
