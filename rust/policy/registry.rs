//! The policies that come with the crate, by name, with their parameters.

use std::fmt;
use std::str::FromStr;

use super::parameters::{self, Parameter, Parameters};
use super::{
    Arc, Clairvoyant, Clock, ClockParameters, Fifo, FlopAware, FlopAwareParameters, Gdsf,
    GdsfParameters, Lfu, Lirs, LirsParameters, Lru, LruK, LruKParameters, Mq, MqParameters,
    PolicySource, Random, RandomParameters, ReuseModel, ReuseModelParameters, S3Fifo,
    S3FifoParameters, Setting, Sieve, Slru, SlruParameters, TailLru, TailLruParameters, Ttl,
    TtlParameters, TwoQ, TwoQParameters, WTinyLfu, WTinyLfuParameters, WithPolicy,
};
use crate::error::{Error, Result};

macro_rules! registry {
    ($($(#[$doc:meta])* $variant:ident($parameters:ty) = $name:literal, reports $reports:literal,
        |$setting:ident, $given:ident| $build:expr;)*) => {
        /// The policies that come with the crate, by name, with their parameters.
        ///
        /// As text: `name`, or `name:key=value:key=value`.
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[non_exhaustive]
        pub enum Policy {
            $($(#[$doc])* $variant($parameters),)*
        }

        impl Policy {
            /// All of them, with the parameters that they have when none are given.
            pub const ALL: &'static [Self] = &[$(Self::$variant(<$parameters>::DEFAULT),)*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// Its parameters, with their defaults.
            #[must_use]
            pub fn parameters(self) -> Vec<Parameter> {
                match self { $(Self::$variant(_) => <$parameters>::list(),)* }
            }

            fn given(self) -> Vec<(&'static str, String)> {
                match self { $(Self::$variant(given) => given.given(),)* }
            }

            fn set(&mut self, name: &str, value: &str) -> Result<()> {
                match self { $(Self::$variant(given) => given.set(name, value),)* }
            }

            /// Whether it tells which blocks it drops, so that their age can be measured.
            #[must_use]
            pub const fn reports_evictions(self) -> bool {
                match self { $(Self::$variant(_) => $reports,)* }
            }

            /// Makes the policy, and does something with it.
            ///
            /// # Errors
            /// [`Error::Shape`] if the facts that it needs are not there for each request.
            pub fn with<W: WithPolicy>(self, setting: Setting<'_>, what: W) -> Result<W::Output> {
                match self {
                    $(Self::$variant($given) => {
                        let $setting = &setting;
                        Ok(what.run($build))
                    })*
                }
            }
        }
    };
}

registry! {
    /// See [`struct@Lru`].
    Lru(parameters::None) = "lru", reports true, |setting, _none| Lru::new(*setting);
    /// See [`struct@Clairvoyant`].
    Clairvoyant(parameters::None) = "clairvoyant", reports false,
        |setting, _none| Clairvoyant::new(*setting);
    /// See [`struct@Fifo`].
    Fifo(parameters::None) = "fifo", reports true, |setting, given| Fifo::build(setting, given);
    /// See [`struct@S3Fifo`].
    S3Fifo(S3FifoParameters) = "s3fifo", reports true,
        |setting, given| S3Fifo::build(setting, given);
    /// See [`struct@Sieve`].
    Sieve(parameters::None) = "sieve", reports true, |setting, given| Sieve::build(setting, given);
    /// See [`struct@Clock`].
    Clock(ClockParameters) = "clock", reports true, |setting, given| Clock::build(setting, given);
    /// See [`struct@Lfu`].
    Lfu(parameters::None) = "lfu", reports true, |setting, given| Lfu::build(setting, given);
    /// See [`struct@Gdsf`].
    Gdsf(GdsfParameters) = "gdsf", reports true, |setting, given| Gdsf::build(setting, given);
    /// See [`struct@FlopAware`].
    FlopAware(FlopAwareParameters) = "flop-aware", reports true,
        |setting, given| FlopAware::build(setting, given);
    /// See [`struct@LruK`].
    LruK(LruKParameters) = "lru-k", reports true, |setting, given| LruK::build(setting, given);
    /// See [`struct@Slru`].
    Slru(SlruParameters) = "slru", reports true, |setting, given| Slru::build(setting, given);
    /// See [`struct@TwoQ`].
    TwoQ(TwoQParameters) = "2q", reports true, |setting, given| TwoQ::build(setting, given);
    /// See [`struct@Mq`].
    Mq(MqParameters) = "mq", reports true, |setting, given| Mq::build(setting, given);
    /// See [`struct@Arc`].
    Arc(parameters::None) = "arc", reports true, |setting, given| Arc::build(setting, given);
    /// See [`struct@Lirs`].
    Lirs(LirsParameters) = "lirs", reports true, |setting, given| Lirs::build(setting, given);
    /// See [`struct@WTinyLfu`].
    WTinyLfu(WTinyLfuParameters) = "w-tinylfu", reports true,
        |setting, given| WTinyLfu::build(setting, given);
    /// See [`struct@TailLru`].
    TailLru(TailLruParameters) = "t-lru", reports true,
        |setting, given| TailLru::build(setting, given);
    /// See [`struct@ReuseModel`].
    ReuseModel(ReuseModelParameters) = "workload-aware", reports true,
        |setting, given| ReuseModel::build(setting, given)?;
    /// See [`struct@Ttl`].
    Ttl(TtlParameters) = "ttl", reports true, |setting, given| Ttl::build(setting, given)?;
    /// See [`struct@Random`].
    Random(RandomParameters) = "random", reports true,
        |setting, given| Random::build(setting, given);
}

impl Policy {
    /// Least recently used.
    pub const LRU: Self = Self::Lru(parameters::None::DEFAULT);
    /// The clairvoyant reference.
    pub const CLAIRVOYANT: Self = Self::Clairvoyant(parameters::None::DEFAULT);
}

impl PolicySource for Policy {
    fn with<W: WithPolicy>(&self, setting: Setting<'_>, what: W) -> Result<W::Output> {
        Self::with(*self, setting, what)
    }

    fn name(&self) -> &str {
        Self::name(*self)
    }

    fn reports_evictions(&self) -> bool {
        Self::reports_evictions(*self)
    }

    fn owners_used_last(&self) -> bool {
        matches!(self, Self::Lru(_))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        for (name, value) in self.given() {
            write!(f, ":{name}={value}")?;
        }
        Ok(())
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let known = Self::ALL.iter().find(|policy| policy.name() == name);
        let mut policy = *known.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(PolicySource::name).collect();
            Error::range(format!("policy {name:?}: choose from {}", names.join(", ")))
        })?;
        for part in parts {
            let Some((key, value)) = part.split_once('=') else {
                return Err(Error::range(format!(
                    "policy {text:?}: give parameters as {name}:key=value"
                )));
            };
            policy
                .set(key, value)
                .map_err(|error| Error::range(format!("policy {name:?}: {error}")))?;
        }
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_others_refused() {
        for &policy in Policy::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        let error = "mru".parse::<Policy>().unwrap_err().to_string();
        assert!(error.starts_with("policy \"mru\": choose from lru, clairvoyant, fifo"));
    }

    #[test]
    fn parameters_are_read_checked_and_written_back() {
        let policy: Policy = "s3fifo:small=0.25:threshold=1".parse().unwrap();
        assert_eq!(policy.to_string(), "s3fifo:small=0.25:threshold=1");
        assert_eq!(
            "ttl:seconds=300".parse::<Policy>().unwrap().to_string(),
            "ttl"
        );
        for (text, expected) in [
            (
                "s3fifo:small=2",
                "policy \"s3fifo\": small=2: give a value from 0 to 1",
            ),
            (
                "s3fifo:small",
                "policy \"s3fifo:small\": give parameters as s3fifo:key=value",
            ),
            ("clock:bit=1", "policy \"clock\": bit: choose from bits"),
            (
                "lru:k=2",
                "policy \"lru\": k: this policy has no parameters",
            ),
        ] {
            assert_eq!(text.parse::<Policy>().unwrap_err().to_string(), expected);
        }
    }
}
