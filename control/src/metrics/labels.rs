//! The values of labels: enums, so that no label ever holds an id, a number or a text from outside.

/// Declares an enum whose variants are the values of one label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The label's value.
            #[must_use]
            pub fn value(self) -> &'static str {
                match self { $(Self::$variant => $value,)* }
            }
        }
    };
}

label! {
    /// What was asked.
    Route {
        /// The voice hook.
        Voice => "voice",
        /// The resume hook.
        Resume => "resume",
        /// The status hooks, of calls, streams and machines.
        Status => "status",
        /// Calls of the API.
        Calls => "calls",
        /// Sessions of the API.
        Sessions => "sessions",
        /// Agents of the API.
        Agents => "agents",
        /// Numbers of the API.
        Numbers => "numbers",
        /// Runs of the API.
        Runs => "runs",
        /// Event streams of the API.
        Events => "events",
        /// Anything else.
        Other => "other",
    }
}

impl Route {
    /// The route of a path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        if let Some(path) = path.strip_prefix("/api/") {
            return Self::of_compatible(path);
        }
        match path.strip_prefix("/v1/").unwrap_or_default() {
            "twilio/voice" => Self::Voice,
            "twilio/status" | "twilio/stream" | "twilio/machine" => Self::Status,
            "events" => Self::Events,
            "sessions" => Self::Sessions,
            path if path.starts_with("twilio/resume/") => Self::Resume,
            path => match path.split('/').next() {
                Some("calls") => Self::Calls,
                Some("agents") => Self::Agents,
                Some("numbers") => Self::Numbers,
                Some("runs") => Self::Runs,
                Some(_) | None => Self::Other,
            },
        }
    }

    /// The route that a compatible one adapts.
    fn of_compatible(path: &str) -> Self {
        match path {
            "twilio/outbound" => Self::Voice,
            "twilio/status" => Self::Status,
            "start-calls" => Self::Runs,
            "start-session" => Self::Sessions,
            "events" => Self::Events,
            path if path.starts_with("calls/") => Self::Calls,
            _ => Self::Other,
        }
    }
}

label! {
    /// What the carrier was told.
    Told {
        /// Open a stream.
        Stream => "stream",
        /// Give the caller to somebody else.
        Transfer => "transfer",
        /// Ask a number's old backend.
        Elsewhere => "elsewhere",
        /// The call is over.
        Hangup => "hangup",
        /// No node takes the call.
        Busy => "busy",
        /// The tenant has as many calls as it may have.
        Crowded => "crowded",
        /// Ask again in a second.
        Wait => "wait",
        /// Nothing helps.
        Apology => "apology",
    }
}

label! {
    /// What became of a request to the carrier.
    Asked {
        /// Done.
        Done => "done",
        /// The account's credentials are wrong.
        Credentials => "credentials",
        /// Refused for good.
        Refused => "refused",
        /// Too much at once.
        Throttled => "throttled",
        /// No answer in time; it may have happened.
        Silent => "silent",
        /// It never got there.
        Unreachable => "unreachable",
        /// The carrier failed.
        Failed => "failed",
    }
}

label! {
    /// What an outbound call's turn came to.
    Dialled {
        /// The carrier has it.
        Placed => "placed",
        /// The carrier refused it for good.
        Refused => "refused",
        /// A rule forbids it.
        Forbidden => "forbidden",
        /// It waits for another turn.
        Later => "later",
        /// The carrier did not say what it did.
        Unsure => "unsure",
        /// It was looked for at the carrier, and is there.
        Found => "found",
        /// It was looked for at the carrier, and is not there.
        Absent => "absent",
        /// Its turn has not come in time.
        Late => "late",
    }
}

label! {
    /// What a relay was told that dialled in.
    Hearing {
        /// It is in.
        Welcome => "welcome",
        /// Another version of the link.
        Version => "version",
        /// A wrong join secret.
        Secret => "secret",
        /// An operator has revoked the node.
        Revoked => "revoked",
        /// No public URL.
        Address => "address",
        /// It said something else.
        NoHello => "no_hello",
    }
}

label! {
    /// What a command asks for.
    Doing {
        /// End the call.
        HangUp => "hang_up",
        /// Let the agent say something.
        Say => "say",
        /// Put a system message into the conversation.
        Inject => "inject",
        /// Replace the agent's instructions.
        Instruct => "instruct",
        /// Silence one side, or let it speak again.
        Mute => "mute",
        /// Connect the caller to somebody else.
        Transfer => "transfer",
    }
}

label! {
    /// What became of the move of a call from a node that drains.
    Moving {
        /// The other node was asked to open a session.
        Begun => "begun",
        /// The call goes on there.
        Moved => "moved",
        /// The same, and it had to leave in mid-sentence.
        Forced => "forced",
        /// The call ended by itself meanwhile.
        Ended => "ended",
        /// No session was open, or no moment found, in time: it is begun again.
        GivenUp => "given_up",
        /// No other node takes the call.
        Unplaced => "unplaced",
    }
}

label! {
    /// What became of a command.
    Answered {
        /// The relay has done it.
        Done => "done",
        /// The relay says why not.
        Refused => "refused",
        /// The relay has not answered in time; it may do it yet.
        Silent => "silent",
        /// It did not reach a relay.
        Unsent => "unsent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_pass_has_a_route_without_it() {
        assert_eq!(Route::of("/v1/twilio/resume/v4.public.x"), Route::Resume);
        assert_eq!(Route::of("/v1/calls/c_1/hang_up"), Route::Calls);
        assert_eq!(Route::of("/v1/callsx"), Route::Other);
        assert_eq!(Route::of("/api/calls/c_1.x"), Route::Calls);
        assert_eq!(Route::of("/api/health"), Route::Other);
    }
}
