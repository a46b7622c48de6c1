//! Where a subscriber is reached, and the address of one call in the reference's format; pure.
//! Rule: webhooks.md 2 and 5.

use std::fmt;
use std::fmt::Write;

use awc::http::Uri;
use awc::http::uri::{Authority, InvalidUri, PathAndQuery, Scheme};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::ServerName;

use crate::domain::AppId;
use crate::journal::Origin;

/// What stands in the query as it is: addresses and platform names stay readable, as in the
/// samples of the reference, and nothing can break out of its parameter.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// The longest URL of a subscriber, in bytes.
pub const URL_BYTES_MAX: usize = 2048;

/// The URL of a subscriber.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    uri: Uri,
    authority: Authority,
    secure: bool,
}

/// Why a text is no address of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL.
    #[error("it is not a URL")]
    Shape,
    /// More than [`URL_BYTES_MAX`].
    #[error("it has more than {URL_BYTES_MAX} bytes")]
    TooLong,
    /// Neither `http://` nor `https://`.
    #[error("it has to begin with http:// or https://")]
    Scheme,
    /// No host, or a user name in front of it.
    #[error("it needs a host, without a user name")]
    Host,
    /// A `#` and what follows it is never sent.
    #[error("it has a fragment")]
    Fragment,
    /// The port is no number from 1 to 65535.
    #[error("its port is no number from 1 to 65535")]
    Port,
    /// No certificate can be for such a host: a literal IPv6 address, above all.
    #[error(
        "over https it needs a host that a certificate can be checked for: a name, or an IPv4 address"
    )]
    Unverifiable,
}

impl Endpoint {
    /// Takes a URL. Errors: [`EndpointError`].
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        if url.len() > URL_BYTES_MAX {
            return Err(EndpointError::TooLong);
        }
        if url.contains('#') {
            return Err(EndpointError::Fragment);
        }
        let uri: Uri = url.parse().map_err(|_| EndpointError::Shape)?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(_) | None => return Err(EndpointError::Scheme),
        };
        let authority = uri.authority().ok_or(EndpointError::Host)?.clone();
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(EndpointError::Host);
        }
        match authority.as_str()[host.len()..].strip_prefix(':') {
            None if authority.as_str().len() == host.len() => {}
            Some(port) if port.parse().is_ok_and(|port: u16| port > 0) => {}
            Some(_) | None => return Err(EndpointError::Port),
        }
        if secure && ServerName::try_from(host).is_err() {
            return Err(EndpointError::Unverifiable);
        }
        Ok(Self { uri, authority, secure })
    }

    /// Whether calls go over TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host as it is written, an IPv6 address in its brackets.
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// The port, by default that of the scheme.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.secure { 443 } else { 80 })
    }

    /// The URL itself.
    pub(super) fn uri(&self) -> Uri {
        self.uri.clone()
    }

    /// The address of one call: the URL with the query of the reference, in the order of its
    /// samples. A query of the URL's own is continued with `&`. What is `signed` comes last: the
    /// signature, and the time that it was made for.
    ///
    /// Errors: the whole is too long, which takes an origin that no edge lets in.
    pub(super) fn address(
        &self,
        app: AppId,
        command: &str,
        by: &Origin,
        signed: Option<(&str, i64)>,
    ) -> Result<Uri, InvalidUri> {
        let own = self.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let joint = match self.uri.query() {
            None if own.ends_with('?') => "",
            None => "?",
            Some(query) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        let ip = utf8_percent_encode(&by.ip, ESCAPED);
        let platform = utf8_percent_encode(&by.platform, ESCAPED);
        let mut target = format!(
            "{own}{joint}SdkAppid={app}&CallbackCommand={command}&contenttype=json&ClientIP={ip}&OptPlatform={platform}",
        );
        if let Some((signature, time)) = signed {
            write!(target, "&Sign={signature}&RequestTime={time}").expect("a String takes all");
        }
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(target.try_into()?);
        Ok(Uri::from_parts(parts).expect("only the target is another one"))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::testing::origin;

    fn address(url: &str, signed: Option<(&str, i64)>, ip: &str) -> String {
        let endpoint = Endpoint::parse(url).expect("an address of a test");
        let by = Origin { ip: ip.into(), ..origin() };
        let command = "Sns.CallbackBlackListAdd";
        let address = endpoint.address(AppId(1_400_000_001), command, &by, signed);
        address.expect("it is not too long").to_string()
    }

    #[test]
    fn the_query_is_the_one_of_the_reference() {
        assert_eq!(
            address("http://receiver.example:8080/im", None, "127.0.0.1"),
            "http://receiver.example:8080/im?SdkAppid=1400000001&CallbackCommand=Sns.CallbackBlackListAdd&contenttype=json&ClientIP=127.0.0.1&OptPlatform=RESTAPI"
        );
    }

    #[test]
    fn the_signature_comes_last() {
        assert_eq!(
            address("https://receiver.example", Some(("abc", 7)), "10.0.0.7"),
            "https://receiver.example/?SdkAppid=1400000001&CallbackCommand=Sns.CallbackBlackListAdd&contenttype=json&ClientIP=10.0.0.7&OptPlatform=RESTAPI&Sign=abc&RequestTime=7"
        );
    }

    #[test]
    fn a_query_of_the_url_itself_is_continued() {
        let cases = [
            ("http://a/b?tenant=7", "http://a/b?tenant=7&SdkAppid="),
            ("http://a/b?tenant=7&", "http://a/b?tenant=7&SdkAppid="),
            ("http://a/b?", "http://a/b?SdkAppid="),
            ("http://a?tenant=7", "http://a/?tenant=7&SdkAppid="),
            ("http://a", "http://a/?SdkAppid="),
        ];
        for (url, begin) in cases {
            let address = address(url, None, "::1");
            assert!(address.starts_with(begin), "{address}");
            assert!(address.contains("&ClientIP=::1&"), "{address}");
        }
    }

    #[test]
    fn a_value_stays_inside_its_parameter() {
        assert!(address("http://a", None, "1&Sign=x #").contains("&ClientIP=1%26Sign%3Dx%20%23&"));
    }

    #[test]
    fn host_and_port_are_those_that_are_called() {
        let cases = [
            ("http://a", ("a", 80, false)),
            ("https://a.example/x", ("a.example", 443, true)),
            ("https://127.0.0.1:8443", ("127.0.0.1", 8443, true)),
            ("http://[::1]:9/x", ("[::1]", 9, false)),
        ];
        for (url, expected) in cases {
            let endpoint = Endpoint::parse(url).expect(url);
            assert_eq!((endpoint.host(), endpoint.port(), endpoint.is_secure()), expected);
        }
    }

    #[test]
    fn a_url_is_bounded() {
        let url = |len: usize| format!("http://a/{}", "x".repeat(len - "http://a/".len()));
        assert!(Endpoint::parse(&url(URL_BYTES_MAX)).is_ok());
        assert_eq!(Endpoint::parse(&url(URL_BYTES_MAX + 1)), Err(EndpointError::TooLong));
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
            ("http://amy:secret@receiver.example/", EndpointError::Host),
            ("http://receiver.example/#top", EndpointError::Fragment),
            ("http://receiver.example:0/", EndpointError::Port),
            ("http://receiver.example:70000/", EndpointError::Port),
            ("https://[::1]/", EndpointError::Unverifiable),
        ];
        for (url, error) in cases {
            assert_eq!(Endpoint::parse(url), Err(error), "{url}");
        }
    }
}
