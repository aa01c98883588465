//! How a command ends when it does not succeed, and with which exit status.

use attune::core::Error as CoreError;
use std::fmt::Display;
use std::process::ExitCode;

/// What a command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command did not do all that was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Status 1: the work failed.
    Failed(String),
    /// Status 1: no setting of the knobs fits the budget; so many bytes would do.
    OverBudget {
        /// Bytes that would do.
        needs: u64,
        /// The sentence for people.
        message: String,
    },
    /// Status 2: an option has a value that it cannot have.
    Usage(String),
    /// Status 130: interrupted, a valid state is left behind: where.
    Interrupted(String),
    /// Status 0: whoever read standard output has read enough.
    Closed,
}

impl Failure {
    /// The work failed, in one sentence.
    pub(crate) fn failed(reason: impl Display) -> Failure {
        Failure::Failed(reason.to_string())
    }

    /// Standard output cannot be written.
    pub(crate) fn stdout(error: &std::io::Error) -> Failure {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::Closed;
        }
        Failure::Failed(format!("standard output: {error}"))
    }

    /// Says what happened and gives the status.
    pub(crate) fn report(self, json: bool) -> ExitCode {
        let (status, message) = match self {
            Failure::Failed(message) => (1, message),
            Failure::OverBudget { needs, message } => {
                if json {
                    println!("{}", serde_json::json!({ "needs_bytes": needs }));
                }
                (1, message)
            }
            Failure::Usage(message) => (2, message),
            Failure::Interrupted(message) => {
                if !message.is_empty() {
                    eprintln!("{message}");
                }
                return ExitCode::from(130);
            }
            Failure::Closed => return ExitCode::SUCCESS,
        };
        eprintln!("error: {message}");
        ExitCode::from(status)
    }
}

impl From<attune::Error> for Failure {
    fn from(error: attune::Error) -> Failure {
        let message = error.to_string();
        match error {
            attune::Error::Core(CoreError::OverBudget { needs, budget }) => {
                let (needs_text, budget) = (crate::size::show(needs), crate::size::show(budget));
                let message = format!(
                    "nothing fits a budget of {budget}: {needs_text} ({needs} bytes) would do; raise the budget, or lower the lengths, the rank, \
                     the number of layers or of threads"
                );
                Failure::OverBudget { needs, message }
            }
            attune::Error::Core(CoreError::BadOption { .. }) => Failure::Usage(message),
            // What the data hold is no matter of usage.
            attune::Error::Option { option: "--data" | "--eval-data" | "--guard-data", .. } => Failure::Failed(message),
            attune::Error::Option { option, .. } if option.starts_with("--") => Failure::Usage(message),
            _ => Failure::Failed(message),
        }
    }
}

impl From<attune::adapter::Error> for Failure {
    fn from(error: attune::adapter::Error) -> Failure {
        attune::Error::from(error).into()
    }
}

impl From<attune::data::DataError> for Failure {
    fn from(error: attune::data::DataError) -> Failure {
        attune::Error::from(error).into()
    }
}

impl From<attune::tokenizer::TokenizerError> for Failure {
    fn from(error: attune::tokenizer::TokenizerError) -> Failure {
        attune::Error::from(error).into()
    }
}

impl From<attune::feedback::Error> for Failure {
    fn from(error: attune::feedback::Error) -> Failure {
        match error {
            attune::feedback::Error::Option { .. } => Failure::Usage(error.to_string()),
            _ => Failure::Failed(error.to_string()),
        }
    }
}
