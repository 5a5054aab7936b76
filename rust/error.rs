//! The one error type of the core.

/// What can go wrong in the core. Every message says what is wrong and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument or input value is not usable.
    #[error("{0}")]
    Invalid(String),
    /// The caller asked a long computation to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// An [`Error::Invalid`] with the given message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

/// Shorthand for a result of the core.
pub type Result<T> = std::result::Result<T, Error>;
