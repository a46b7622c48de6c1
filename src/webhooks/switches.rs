//! Which commands a subscription asked for.

use crate::tags::CallbackCommand;

/// Which commands a subscriber asked for; nothing is sent for the others. Rule: webhooks.md 6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches(u8);

impl Switches {
    /// Every command is on.
    pub const ALL: Self = Self((1 << CallbackCommand::ALL.len()) - 1);

    /// Whether `command` is on.
    pub fn has(self, command: CallbackCommand) -> bool {
        self.0 & Self::bit(command) != 0
    }

    /// The names of those that are on.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        CallbackCommand::ALL.into_iter().filter(move |command| self.has(*command)).map(|c| c.name())
    }

    fn bit(command: CallbackCommand) -> u8 {
        1 << command as u8
    }
}

impl FromIterator<CallbackCommand> for Switches {
    fn from_iter<I: IntoIterator<Item = CallbackCommand>>(commands: I) -> Self {
        Self(commands.into_iter().map(Self::bit).fold(0, |all, bit| all | bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_switch_of_its_own() {
        for command in CallbackCommand::ALL {
            let only: Switches = [command].into_iter().collect();
            let on: Vec<_> = CallbackCommand::ALL.into_iter().filter(|c| only.has(*c)).collect();
            assert_eq!(on, [command]);
            assert!(Switches::ALL.has(command) && !Switches::default().has(command));
        }
    }
}
