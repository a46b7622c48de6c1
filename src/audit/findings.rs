//! What an audit finds wrong: the first findings whole, the others counted.

use serde::Serialize;

/// How many findings of a kind are kept to be shown; all are counted.
pub const FINDINGS_SHOWN_MAX: usize = 100;

/// Findings: the first ones whole, the others counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Findings<F> {
    /// How many there are.
    pub total: u64,
    /// The first [`FINDINGS_SHOWN_MAX`].
    pub first: Vec<F>,
}

impl<F> Default for Findings<F> {
    fn default() -> Self {
        Self { total: 0, first: Vec::new() }
    }
}

impl<F> Findings<F> {
    /// One more.
    pub(super) fn add(&mut self, finding: F) {
        self.total += 1;
        if self.first.len() < FINDINGS_SHOWN_MAX {
            self.first.push(finding);
        }
    }
}
