//! Pages of a list: how long one may be, and where the next one starts. Rule: rest-api.md 3.4.

use super::shape::{Malformed, Scalar};

/// Items of a page when no number is asked for.
const ITEMS_DEFAULT: usize = 100;

/// Items of a page at most; who asks for more gets this many.
const ITEMS_MAX: usize = 1000;

/// How long the page may be.
pub(super) fn items_max(field: &Scalar<'_>) -> Result<usize, Malformed> {
    match field.integer()? {
        None => Ok(ITEMS_DEFAULT),
        Some(max @ 1..) => Ok(usize::try_from(max).unwrap_or(ITEMS_MAX).min(ITEMS_MAX)),
        Some(_) => Err(Malformed),
    }
}

/// Where the page behind `items` from `start` on starts; 0 at the end.
pub(super) fn next(start: usize, items: usize, total: usize) -> usize {
    let next = start.saturating_add(items);
    if items == 0 || next >= total { 0 } else { next }
}
