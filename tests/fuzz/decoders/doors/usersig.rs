//! UserSigs, from their text to the verdict. The first byte says how deep the rest is put: as the
//! text itself, as the stream in it, or as the document in that.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cordon::domain::AppId;
use cordon::usersig::{self, Error};
use flate2::Compression;
use flate2::write::ZlibEncoder;

const APP: AppId = AppId(1_400_000_001);
const ADMIN: &str = "administrator";
/// That of the signatures in the corpus.
const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NOW_S: i64 = 1_700_000_000;

pub(crate) fn open(data: &[u8]) {
    let Some((depth, rest)) = data.split_first() else { return };
    let text = match depth % 3 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        1 => encoded(rest),
        _ => encoded(&deflated(rest)),
    };
    match usersig::decode(&text) {
        Err(error) => assert_eq!(error, Error::Malformed),
        Ok(document) => {
            let verdict = document.verify(APP, ADMIN, &["another key", KEY], NOW_S);
            if let Ok(verified) = verdict {
                assert!(verified.expires_at >= NOW_S);
            }
            // Nothing here was made with this key.
            assert!(document.verify(APP, ADMIN, &["another key"], NOW_S).is_err());
        }
    }
}

fn encoded(stream: &[u8]) -> String {
    STANDARD.encode(stream).replace('+', "*").replace('/', "-").replace('=', "_")
}

fn deflated(document: &[u8]) -> Vec<u8> {
    let mut stream = ZlibEncoder::new(Vec::new(), Compression::fast());
    stream.write_all(document).expect("a vector takes every byte");
    stream.finish().expect("a vector takes every byte")
}
