use proptest::prelude::*;
use tidegate_core::record::Used;

use super::*;
use crate::tests::record;

fn price(text: &str) -> Price {
    text.parse().unwrap()
}

#[test]
fn prices_are_read_exactly_or_not_at_all() {
    assert_eq!(price("0.0000166667").attos(), 16_666_700_000_000);
    assert_eq!(price("0.000000000000000001").attos(), 1);
    assert_eq!(price("1000000").attos(), 1_000_000 * ATTO);
    assert_eq!(price("0.500000000000000000000000").attos(), ATTO / 2);
    for bad in [
        "",
        ".5",
        "1.",
        "-1",
        "1e3",
        "1,5",
        "1000000.1",
        "0.0000000000000000001",
        "99999999999999999999999999999999999999999",
    ] {
        let error = bad.parse::<Price>().unwrap_err();
        assert!(error.to_string().contains("a price is"), "{error}");
    }
}

#[test]
fn a_bill_has_all_its_parts() {
    let prices = Prices {
        currency: "EUR".into(),
        invocation: price("0.0000002"),
        gb_second: price("0.0000166667"),
        cpu_second: price("0.00001"),
        gb_out: price("0.09"),
        cold_start: price("0.000001"),
        idle_gb_second: price("0.0000041667"),
    };
    let mut used = Totals::default();
    let mut call = record(1);
    call.memory_limit = 128 << 20;
    call.times.run_us = 99_500;
    call.bytes_out = 1 << 30;
    call.times.cold = Some(Default::default());
    call.used = Used::Alone {
        cpu_us: 500_000,
        memory_peak: 1,
    };
    for _ in 0..1_000_000 {
        used.add_record(&call, 1000, true);
    }
    used.idle_byte_us = GB_SECOND * 10;
    let cost = prices.of(&used);
    assert_eq!(cost.invocations.to_string(), "0.200000000");
    // 100 ms of an eighth of a gigabyte, a million times: 12 500 GB-seconds.
    assert_eq!(used.gb_micro_seconds(), 12_500_000_000);
    assert_eq!(cost.gb_seconds.to_string(), "0.208333750");
    assert_eq!(cost.cpu.to_string(), "5.000000000");
    assert_eq!(cost.out.to_string(), "90000.000000000");
    assert_eq!(cost.cold_starts.to_string(), "1.000000000");
    assert_eq!(cost.idle.to_string(), "0.000041667");
    assert_eq!(format!("{:.2}", cost.total()), "90006.41");
}

#[test]
fn an_amount_is_shown_with_as_many_decimals_as_are_wanted() {
    for (nanos, decimals, text) in [
        (1, 9, "0.000000001"),
        (1_500_000_000, 0, "2"),
        (999_999_999, 2, "1.00"),
        (-1_005_000_000, 2, "-1.01"),
        (-1, 2, "0.00"),
    ] {
        assert_eq!(format!("{:.decimals$}", Amount(nanos)), text);
    }
    assert_eq!(Amount(i128::MIN) + Amount(-1), Amount(i128::MIN));
}

proptest! {
    #[test]
    fn a_product_is_rounded_once(attos in 0..10_u128.pow(20), count in 0..1_u128 << 60, parts in 1..1_u128 << 50) {
        // Small enough for the plain sum to fit.
        let (attos, count) = (attos >> 20, count);
        let amount = Price(attos).times(count, parts);
        let unit = parts * ATTOS_A_NANO;
        prop_assert_eq!(amount.0 as u128, (attos * count + unit / 2) / unit);
    }

    #[test]
    fn no_usage_is_too_much(attos in 0..=MAX_PRICE * ATTO, count: u128) {
        for parts in [1, 1_000_000, 1 << 30, GB_SECOND] {
            prop_assert!(Price(attos).times(count, parts).0 >= 0);
        }
    }
}
