//! What a subscriber can ask for, by the names on the wire.

use std::fmt;

/// What is told of a command that is called nearly as often as it may be, at that moment: no record speaks
/// of it, so it is owed to nobody. Rule: rest-api.md 10.
pub const REQUEST_OVER_LIMIT: &str = "Alert.RequestOverLimit";
/// A client comes or goes. There are no clients here, so the name is accepted and nothing is ever sent.
pub const STATE_CHANGE: &str = "State.StateChange";

/// What can be told after the fact, in the order in which it is listed: what is asked for if nothing is
/// said. Rule: webhooks.md 1.
pub const TOLD_COMMANDS: [&str; 7] = [
    CallbackCommand::BlackListAdd.name(),
    CallbackCommand::BlackListDelete.name(),
    CallbackCommand::FriendAdd.name(),
    CallbackCommand::FriendDelete.name(),
    CallbackCommand::PortraitSet.name(),
    CallbackCommand::AfterSendMsg.name(),
    REQUEST_OVER_LIMIT,
];
/// What can be asked before the fact, in the same order.
pub const ASKED_COMMANDS: [&str; 3] = [
    BeforeCommand::PrevFriendAdd.name(),
    BeforeCommand::PrevFriendResponse.name(),
    BeforeCommand::BeforeSendMsg.name(),
];

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
    pub const fn name(self) -> &'static str {
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

/// What a subscriber can be asked before the fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BeforeCommand {
    /// A client wants to add friends.
    PrevFriendAdd,
    /// A client wants to answer friend requests.
    PrevFriendResponse,
    /// A message is about to be sent.
    BeforeSendMsg,
}

impl BeforeCommand {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PrevFriendAdd, Self::PrevFriendResponse, Self::BeforeSendMsg];

    /// The name on the wire. Rule: webhooks.md 1.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PrevFriendAdd => "Sns.CallbackPrevFriendAdd",
            Self::PrevFriendResponse => "Sns.CallbackPrevFriendResponse",
            Self::BeforeSendMsg => "C2C.CallbackBeforeSendMsg",
        }
    }

    /// The command with this name on the wire, if it is one of these.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.name() == name)
    }
}

impl fmt::Display for BeforeCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
        for command in BeforeCommand::ALL {
            assert_eq!(BeforeCommand::from_name(command.name()), Some(command));
            assert_eq!(CallbackCommand::from_name(command.name()), None);
        }
    }
}
