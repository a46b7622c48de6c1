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
}

impl CallbackCommand {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::FriendAdd, Self::FriendDelete, Self::BlackListAdd, Self::BlackListDelete];

    /// The name on the wire. Rule: webhooks.md 1.
    pub fn name(self) -> &'static str {
        match self {
            Self::FriendAdd => "Sns.CallbackFriendAdd",
            Self::FriendDelete => "Sns.CallbackFriendDelete",
            Self::BlackListAdd => "Sns.CallbackBlackListAdd",
            Self::BlackListDelete => "Sns.CallbackBlackListDelete",
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
pub struct Switches {
    /// `Sns.CallbackFriendAdd`.
    pub friend_add: bool,
    /// `Sns.CallbackFriendDelete`.
    pub friend_delete: bool,
    /// `Sns.CallbackBlackListAdd`.
    pub black_list_add: bool,
    /// `Sns.CallbackBlackListDelete`.
    pub black_list_delete: bool,
}

impl Switches {
    /// Every command is on.
    pub const ALL: Self = Self {
        friend_add: true,
        friend_delete: true,
        black_list_add: true,
        black_list_delete: true,
    };

    /// Whether `command` is on.
    pub fn has(self, command: CallbackCommand) -> bool {
        match command {
            CallbackCommand::FriendAdd => self.friend_add,
            CallbackCommand::FriendDelete => self.friend_delete,
            CallbackCommand::BlackListAdd => self.black_list_add,
            CallbackCommand::BlackListDelete => self.black_list_delete,
        }
    }
}

impl FromIterator<CallbackCommand> for Switches {
    fn from_iter<I: IntoIterator<Item = CallbackCommand>>(commands: I) -> Self {
        let mut switches = Self::default();
        for command in commands {
            match command {
                CallbackCommand::FriendAdd => switches.friend_add = true,
                CallbackCommand::FriendDelete => switches.friend_delete = true,
                CallbackCommand::BlackListAdd => switches.black_list_add = true,
                CallbackCommand::BlackListDelete => switches.black_list_delete = true,
            }
        }
        switches
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
}
