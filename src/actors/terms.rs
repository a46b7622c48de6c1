//! Which claims of a partition are this node's own, and what that allows.

use std::collections::VecDeque;

use uuid::Uuid;

use super::claim::ClaimError;
use super::recovery::Recovered;
use crate::journal::{Epoch, Offset};

/// Claims of unknown fate that are remembered.
const NONCES_MAX: usize = 16;

/// The claims of this node while it has lost nothing but certainty.
#[derive(Default)]
pub(super) struct Terms {
    /// The epoch of the last one that is known to have taken effect.
    held: Option<Epoch>,
    /// The epoch of the last one in which no former owner could answer questions any more: behind it
    /// a claim of this node need not wait for a lease.
    served: Option<Epoch>,
    /// Those whose fate may be unknown.
    nonces: VecDeque<Uuid>,
}

impl Terms {
    /// Judges what was recovered before a claim: the epoch to claim, and whether nobody was there
    /// before who could still answer questions. Errors: [`ClaimError::Fenced`].
    pub(super) fn before_claim(
        &mut self,
        recovered: &Recovered,
    ) -> Result<(Epoch, bool), ClaimError> {
        let before = recovered.rule.epoch();
        if recovered.claim.is_some_and(|(nonce, _)| self.nonces.contains(&nonce)) {
            // A claim of this node took effect without being acknowledged.
            self.held = Some(before);
        }
        if self.held.is_some_and(|held| before > held) {
            return Err(ClaimError::Fenced);
        }
        let vacated = recovered.released || before == Epoch(0) || self.served == Some(before);
        Ok((Epoch(before.0 + 1), vacated))
    }

    /// A claim is sent: its fate is unknown from now on.
    pub(super) fn note_sent(&mut self, nonce: Uuid) {
        self.nonces.push_back(nonce);
        if self.nonces.len() > NONCES_MAX {
            self.nonces.pop_front();
        }
    }

    /// Judges what was recovered behind a claim that stands at `first`.
    /// Errors: [`ClaimError::Beaten`].
    pub(super) fn behind_claim(
        &mut self,
        recovered: &Recovered,
        claim: (Uuid, Offset),
        epoch: Epoch,
    ) -> Result<(), ClaimError> {
        if recovered.claim != Some(claim) {
            return Err(ClaimError::Beaten);
        }
        self.note_held(epoch);
        Ok(())
    }

    /// The claim with `epoch` took effect.
    pub(super) fn note_held(&mut self, epoch: Epoch) {
        self.held = Some(epoch);
    }

    /// Nobody of an earlier epoch answers questions any more.
    pub(super) fn note_served(&mut self, epoch: Epoch) {
        self.served = Some(epoch);
    }
}
