//! The one error type of the core: what went wrong, as a value to match on.

/// What can go wrong in the core. Every message says what is wrong and what to do about it.
///
/// ```
/// use prefixsim::{Error, trace::Csr};
///
/// let refused = Csr::new(&[0, 9], &[1_u32, 2]);
/// assert!(matches!(refused, Err(Error::Shape(_))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Columns, rows or lists do not fit each other: a length, an offset, an index without a row.
    #[error("{0}")]
    Shape(String),
    /// A value or a combination of options lies outside what is allowed.
    #[error("{0}")]
    Range(String),
    /// A request that the configured cache or server could never serve, however long it waits.
    #[error("{0}")]
    NeverFits(String),
    /// Stored data that is not what it claims to be: a file was changed, cut or made by hand.
    #[error("{0}")]
    Damaged(String),
    /// A row of a file that cannot be read.
    #[error("{}", at_line(*.line, .field.as_deref(), .problem))]
    Row {
        /// Its line in the file, from 1.
        line: u64,
        /// The field at fault, if it is one field.
        field: Option<String>,
        /// What is wrong with it.
        problem: String,
    },
    /// Memory that the system does not give.
    #[error("{bytes} bytes of memory are needed and cannot be had")]
    Memory {
        /// How much was asked for at once.
        bytes: u64,
    },
    /// The caller asked a long computation to stop.
    #[error("interrupted")]
    Interrupted,
    /// An invariant of the core does not hold: never the caller's fault.
    #[error("a bug of prefixsim, please report it: {0}")]
    Bug(String),
}

impl Error {
    /// An [`Error::Shape`] with the given message.
    pub fn shape(message: impl Into<String>) -> Self {
        Self::Shape(message.into())
    }

    /// An [`Error::Range`] with the given message.
    pub fn range(message: impl Into<String>) -> Self {
        Self::Range(message.into())
    }

    /// An [`Error::NeverFits`] with the given message.
    pub fn never_fits(message: impl Into<String>) -> Self {
        Self::NeverFits(message.into())
    }

    /// An [`Error::Damaged`] with the given message.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::Damaged(message.into())
    }

    /// An [`Error::Bug`]: the invariant that does not hold, for `validate()` methods.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::Bug(message.into())
    }

    /// An [`Error::Shape`] unless a column called `name` has one row per request.
    ///
    /// # Errors
    /// If `rows` is not `requests`.
    pub fn check_rows(name: &str, rows: usize, requests: usize) -> Result<()> {
        if rows == requests {
            return Ok(());
        }
        Err(Self::shape(format!(
            "{name}: {rows} rows, but {requests} requests"
        )))
    }
}

/// `line: field: problem`, the field only if it is known.
fn at_line(line: u64, field: Option<&str>, problem: &str) -> String {
    match field {
        Some(field) => format!("{line}: {field}: {problem}"),
        None => format!("{line}: {problem}"),
    }
}

/// Shorthand for a result of the core.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_line_field_and_problem() {
        let mut error = Error::Row {
            line: 7,
            field: Some("timestamp".into()),
            problem: "missing".into(),
        };
        assert_eq!(error.to_string(), "7: timestamp: missing");
        if let Error::Row { field, .. } = &mut error {
            *field = None;
        }
        assert_eq!(error.to_string(), "7: missing");
    }

    #[test]
    fn rows_are_one_per_request() {
        assert_eq!(Error::check_rows("salt", 3, 3), Ok(()));
        assert_eq!(
            Error::check_rows("salt", 2, 3).unwrap_err().to_string(),
            "salt: 2 rows, but 3 requests"
        );
    }
}
