//! A lane that a dispatcher follows: whether it is read, when its cursor is saved, how it is left.

use std::time::Duration;

use tokio::time::Instant;

use super::cursor::{CursorError, Position, SaveMark};
use super::lane::Lane;

/// How long at least lies between two saves of one cursor, in milliseconds.
const SAVE_PERIOD_MS: u64 = 1_000;

/// A lane and how far its dispatcher is with it.
pub(super) struct Followed {
    pub(super) lane: Lane,
    /// Not read for now, because its window is full.
    pub(super) full: bool,
    /// Not read any more, because it holds bytes that are no record.
    pub(super) halted: bool,
    /// Neither read nor sent any more, because its partition is to be let go.
    pub(super) leaving: bool,
    final_save_tried: bool,
    saving: bool,
    save_fails: bool,
    save_not_before: Instant,
}

/// What leaving a lane needs next.
pub(super) enum Leave {
    /// Something is in flight, or nobody wants to leave.
    NotYet,
    /// This cursor is to be saved; tried once, because a lost save costs repetitions alone.
    Save(Position, SaveMark),
    /// Nothing.
    Done,
}

impl Followed {
    pub(super) fn new(lane: Lane, now: Instant) -> Self {
        Self {
            lane,
            full: false,
            halted: false,
            leaving: false,
            final_save_tried: false,
            saving: false,
            save_fails: false,
            save_not_before: now,
        }
    }

    pub(super) fn is_read(&self) -> bool {
        !self.full && !self.halted && !self.leaving
    }

    /// When the cursor is to be saved, if it is and nothing else will tell.
    pub(super) fn save_due(&self) -> Option<Instant> {
        let idle = !self.leaving && !self.saving;
        (idle && self.lane.cursor_worth_saving().is_some()).then_some(self.save_not_before)
    }

    /// The cursor to save at `now`, if any; [`Self::end_save`] is owed from then on.
    pub(super) fn begin_save(&mut self, now: Instant) -> Option<(Position, SaveMark)> {
        if self.save_due()? > now {
            return None;
        }
        let position = self.lane.cursor_worth_saving()?;
        self.saving = true;
        self.save_not_before = now + Duration::from_millis(SAVE_PERIOD_MS);
        Some((position, self.lane.bookmark.begin_save(position)))
    }

    /// Takes note of what came of a save. Errors: the first failure of several in a row.
    pub(super) fn end_save(
        &mut self,
        mark: &SaveMark,
        result: Result<(), CursorError>,
    ) -> Result<(), CursorError> {
        self.saving = false;
        match result {
            Ok(()) => {
                self.save_fails = false;
                self.lane.bookmark.saved(mark);
                Ok(())
            }
            Err(error) => {
                self.lane.bookmark.save_failed(mark);
                let told = std::mem::replace(&mut self.save_fails, true);
                if told { Ok(()) } else { Err(error) }
            }
        }
    }

    /// The next step of leaving.
    pub(super) fn leave(&mut self) -> Leave {
        if !self.leaving || self.saving || self.lane.in_flight() > 0 {
            return Leave::NotYet;
        }
        match self.lane.cursor_at_the_end() {
            Some(position) if !self.final_save_tried => {
                self.final_save_tried = true;
                self.saving = true;
                Leave::Save(position, self.lane.bookmark.begin_save(position))
            }
            Some(_) | None => Leave::Done,
        }
    }
}
