//! What usage costs, by a table of prices.

use crate::record::Record;

/// Prices, in some currency. What has no price costs nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    /// The currency, as it is shown: `EUR`.
    pub currency: String,
    /// Of a million invocations.
    pub million_invocations: f64,
    /// Of a GB-second (2³⁰ bytes): an instance's memory limit times the billed time.
    pub gb_second: f64,
    /// Of a second of processor time.
    pub cpu_second: f64,
    /// Of a GB (2³⁰ bytes) of answers.
    pub gb_out: f64,
    /// Of a GB-second of instances that are there without a call.
    pub idle_gb_second: f64,
}

/// What was used, as far as it has a price.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Priced {
    /// Invocations that reached an instance.
    pub invocations: u64,
    /// See [`Prices::gb_second`].
    pub gb_seconds: f64,
    /// See [`Prices::cpu_second`].
    pub cpu_seconds: f64,
    /// Bytes of answers.
    pub bytes_out: u64,
    /// See [`Prices::idle_gb_second`].
    pub idle_gb_seconds: f64,
}

/// What it costs, in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// For the number of invocations.
    pub invocations: f64,
    /// For memory while they ran.
    pub memory: f64,
    /// For processor time.
    pub cpu: f64,
    /// For bytes of answers.
    pub out: f64,
    /// For memory while nothing ran.
    pub idle: f64,
}

const GB: f64 = (1_u64 << 30) as f64;
const MILLION: f64 = 1e6;

impl Prices {
    /// What it costs.
    #[must_use]
    pub fn of(&self, used: &Priced) -> Cost {
        Cost {
            invocations: used.invocations as f64 / MILLION * self.million_invocations,
            memory: used.gb_seconds * self.gb_second,
            cpu: used.cpu_seconds * self.cpu_second,
            out: used.bytes_out as f64 / GB * self.gb_out,
            idle: used.idle_gb_seconds * self.idle_gb_second,
        }
    }

    /// Whether nothing has a price.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let Self {
            currency: _,
            million_invocations,
            gb_second,
            cpu_second,
            gb_out,
            idle_gb_second,
        } = *self;
        [
            million_invocations,
            gb_second,
            cpu_second,
            gb_out,
            idle_gb_second,
        ]
        .iter()
        .all(|price| *price == 0.0)
    }
}

impl Priced {
    /// What one invocation used. Processor time counts where it is known to be this one's.
    #[must_use]
    pub fn of(record: &Record, billed_us: u64) -> Self {
        let cpu_us = match record.used {
            crate::record::Used::Alone { cpu_us, .. } => cpu_us,
            _ => 0,
        };
        Self {
            invocations: 1,
            gb_seconds: billed_us as f64 / MILLION * (record.memory_limit as f64 / GB),
            cpu_seconds: cpu_us as f64 / MILLION,
            bytes_out: record.bytes_out,
            idle_gb_seconds: 0.0,
        }
    }
}

impl Cost {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.invocations + self.memory + self.cpu + self.out + self.idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_price() {
        let prices = Prices {
            currency: "EUR".to_owned(),
            million_invocations: 0.2,
            gb_second: 0.000_016,
            cpu_second: 0.001,
            gb_out: 0.09,
            idle_gb_second: 0.000_004,
        };
        let cost = prices.of(&Priced {
            invocations: 5_000_000,
            gb_seconds: 1000.0,
            cpu_seconds: 10.0,
            bytes_out: 2 << 30,
            idle_gb_seconds: 500.0,
        });
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(cost.invocations, 1.0);
        near(cost.memory, 0.016);
        near(cost.cpu, 0.01);
        near(cost.out, 0.18);
        near(cost.idle, 0.002);
        near(cost.total(), 1.208);
        assert!(!prices.is_free());
        assert!(Prices::default().is_free());
    }
}
