//! What a subscriber can ask for, by the names on the wire.

use std::fmt;

/// What a subscriber can be told after the fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallbackCommand {
    /// Friends were added.
    FriendAdd,
    /// Friends were removed.
    FriendDelete,
    /// Users were put on a blocklist.
    BlackListAdd,
    /// Users were taken off a blocklist.
    BlackListDelete,
    /// A profile changed.
    PortraitSet,
    /// A message was taken over.
    AfterSendMsg,
    /// Nothing: an admin tries whether calls arrive. Nobody can ask for it.
    Test,
}

impl CallbackCommand {
    /// All that can be asked for.
    pub const ALL: [Self; 6] = [
        Self::FriendAdd,
        Self::FriendDelete,
        Self::BlackListAdd,
        Self::BlackListDelete,
        Self::PortraitSet,
        Self::AfterSendMsg,
    ];

    /// The name on the wire. Rule: webhooks.md 1.
    pub fn name(self) -> &'static str {
        match self {
            Self::FriendAdd => "Sns.CallbackFriendAdd",
            Self::FriendDelete => "Sns.CallbackFriendDelete",
            Self::BlackListAdd => "Sns.CallbackBlackListAdd",
            Self::BlackListDelete => "Sns.CallbackBlackListDelete",
            Self::PortraitSet => "Profile.CallbackPortraitSet",
            Self::AfterSendMsg => "C2C.CallbackAfterSendMsg",
            Self::Test => "Cordon.Test",
        }
    }

    /// The command with this name on the wire, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.name() == name)
    }
}

impl fmt::Display for CallbackCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

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
    fn a_command_is_found_by_its_name() {
        for command in CallbackCommand::ALL {
            assert_eq!(CallbackCommand::from_name(command.name()), Some(command));
        }
        assert_eq!(CallbackCommand::from_name("Sns.CallbackBlacklistAdd"), None);
    }

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
