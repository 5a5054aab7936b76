//! Parameters of policies: `name:key=value:key=value`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A parameter of a policy, as documentation shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its value when none is given.
    pub default: String,
    /// What it does.
    pub help: &'static str,
}

/// The parameters of one policy.
pub trait Parameters: Copy + Default + PartialEq {
    /// All of them, with their defaults.
    fn list() -> Vec<Parameter>;

    /// Those that differ from their default, with their values.
    fn given(&self) -> Vec<(&'static str, String)>;

    /// Sets one from text.
    ///
    /// # Errors
    /// [`Error::Range`] if there is no such parameter or the value is not one of its own.
    fn set(&mut self, name: &str, value: &str) -> Result<()>;
}

/// Reads a value and checks that it lies in a range.
pub(super) fn value<T: FromStr + PartialOrd + Display>(
    name: &str,
    text: &str,
    range: &RangeInclusive<T>,
) -> Result<T> {
    let value: Option<T> = text.parse().ok();
    value.filter(|value| range.contains(value)).ok_or_else(|| {
        Error::range(format!(
            "{name}={text}: give a value from {} to {}",
            range.start(),
            range.end()
        ))
    })
}

/// The error for a parameter that a policy does not have.
pub(super) fn unknown(name: &str, known: &[Parameter]) -> Error {
    if known.is_empty() {
        return Error::range(format!("{name}: this policy has no parameters"));
    }
    let names: Vec<&str> = known.iter().map(|parameter| parameter.name).collect();
    Error::range(format!("{name}: choose from {}", names.join(", ")))
}

/// Declares the parameters of a policy: a struct, its defaults, and how it is read from text.
macro_rules! parameters {
    ($(#[$doc:meta])* $name:ident {
        $($(#[doc = $help:literal])+ $field:ident: $type:ty = $default:expr, in $range:expr;)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[doc = $help])+ pub $field: $type,)*
        }

        impl $name {
            /// The values when none are given.
            pub const DEFAULT: Self = Self { $($field: $default,)* };
        }

        impl Default for $name {
            fn default() -> Self {
                Self::DEFAULT
            }
        }

        impl $crate::policy::parameters::Parameters for $name {
            fn list() -> Vec<$crate::policy::parameters::Parameter> {
                vec![$($crate::policy::parameters::Parameter {
                    name: stringify!($field),
                    default: Self::DEFAULT.$field.to_string(),
                    help: concat!($($help),+).trim_ascii(),
                },)*]
            }

            #[allow(unused_mut)]
            fn given(&self) -> Vec<(&'static str, String)> {
                let mut given = Vec::new();
                $(if self.$field != Self::DEFAULT.$field {
                    given.push((stringify!($field), self.$field.to_string()));
                })*
                given
            }

            #[allow(unused_variables)]
            fn set(&mut self, name: &str, value: &str) -> $crate::error::Result<()> {
                match name {
                    $(stringify!($field) => {
                        self.$field =
                            $crate::policy::parameters::value(name, value, &($range))?;
                    })*
                    _ => return Err($crate::policy::parameters::unknown(name, &Self::list())),
                }
                #[allow(unreachable_code)]
                Ok(())
            }
        }
    };
}

pub(super) use parameters;

parameters! {
    /// No parameters.
    None {}
}
