use super::*;

fn labels(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter()
        .map(|(k, v)| (format!("com.openfaas.scale.{k}"), (*v).to_owned()))
        .collect()
}

fn good(all: &[(&str, &str)]) -> Scale {
    scale(&labels(all), 100, None).expect("a scale")
}

#[test]
fn without_labels_it_is_the_paid_edition_s_defaults() {
    let s = good(&[]);
    assert_eq!((s.min, s.max, s.initial), (1, 20, 1));
    assert_eq!(
        s.metric,
        Metric::Rate {
            target_milli: 45_000
        }
    );
    assert_eq!((s.concurrency, s.target_milli), (100, 1000));
    assert_eq!((s.zero, s.by_hand, s.waiting), (None, None, None));
}

#[test]
fn who_only_bounds_the_scaling_gets_the_free_edition_s_rule() {
    let five = Metric::Rate {
        target_milli: 5_000,
    };
    assert_eq!(good(&[("max", "2")]).metric, five);
    assert_eq!(good(&[("factor", "50")]).metric, five);
    let paid = Metric::Rate {
        target_milli: 45_000,
    };
    assert_eq!(good(&[("min", "2")]).metric, paid);
    assert_eq!(good(&[("max", "2"), ("target", "50")]).metric, paid);
    assert_eq!(good(&[("max", "2"), ("type", "rps")]).metric, paid);
}

#[test]
fn types_and_targets() {
    let of = |t, target, proportion| {
        let s = good(&[
            ("type", t),
            ("target", target),
            ("target-proportion", proportion),
        ]);
        (s.metric, s.target_milli)
    };
    assert_eq!(
        of("rps", "100", "0.5"),
        (
            Metric::Rate {
                target_milli: 50_000
            },
            1000
        )
    );
    assert_eq!(
        of("rps", "0.5", "1"),
        (Metric::Rate { target_milli: 500 }, 1000)
    );
    // Thousandths of a core.
    assert_eq!(
        of("cpu", "500", "0.9"),
        (
            Metric::Cpu {
                target_milli: 450_000
            },
            1000
        )
    );
    assert_eq!(of("capacity", "50", "0.9"), (Metric::Concurrency, 450));
    assert_eq!(of("queue", "10", "1"), (Metric::Concurrency, 100));
    assert_eq!(
        of("capacity", "5000", "1"),
        (Metric::Concurrency, 1000),
        "no more than there is"
    );
}

#[test]
fn zero_is_a_choice_of_its_own() {
    assert_eq!(
        good(&[("zero", "true")]).zero,
        Some(Duration::from_secs(900))
    );
    assert_eq!(
        good(&[("zero", "false"), ("zero-duration", "5m")]).zero,
        None
    );
    let after = |text| good(&[("zero", "true"), ("zero-duration", text)]).zero;
    assert_eq!(after("1m30s"), Some(Duration::from_secs(90)));
    assert_eq!(after("45"), Some(Duration::from_secs(45)));
    assert_eq!(good(&[("zero", "true"), ("min", "3")]).min, 3);
}

#[test]
fn a_minimum_above_the_default_maximum_raises_it() {
    let s = good(&[("min", "30")]);
    assert_eq!((s.min, s.max), (30, 30));
    let fixed = good(&[("min", "4"), ("max", "4")]);
    assert_eq!((fixed.min, fixed.max, fixed.initial), (4, 4, 4));
}

#[test]
fn what_is_asked_for_by_hand_comes_before_the_labels() {
    let asked = |n| scale(&labels(&[("min", "2"), ("max", "5")]), 1, Some(n)).unwrap();
    assert_eq!(rules::floor(&asked(4)), 4);
    assert_eq!(asked(4).initial, 4);
    assert_eq!(rules::floor(&asked(1)), 1);
    assert_eq!((asked(9).max, rules::floor(&asked(9))), (9, 9));
    assert_eq!((asked(0).initial, rules::floor(&asked(0))), (0, 2));
    let turn = |turn| of(&labels(&[]), 1, Some(0), turn).unwrap().by_hand;
    assert_ne!(turn(1), turn(2), "asked for again");
    assert_eq!(of(&labels(&[]), 1, None, 7).unwrap().by_hand, None);
    assert!(scale(&labels(&[]), 1, Some(MOST + 1)).is_err());
}

#[test]
fn impossible_values_are_named_with_what_would_do() {
    for (all, says) in [
        (
            &[("min", "0")][..],
            r#"scale.min: "0" is not a whole number between 1 and 1000"#,
        ),
        (
            &[("min", "-1")],
            r#"scale.min: "-1" is not a whole number between 1 and 1000"#,
        ),
        (&[("min", "two")], r#"scale.min: "two" is not"#),
        (
            &[("max", "0")],
            r#"scale.max: "0" is not a whole number between 1 and 1000"#,
        ),
        (&[("max", "1001")], r#"scale.max: "1001" is not"#),
        (&[("max", "")], r#"scale.max: "" is not"#),
        (
            &[("min", "5"), ("max", "3")],
            r#"scale.min: "5" is above com.openfaas.scale.max, which is 3"#,
        ),
        (
            &[("factor", "0")],
            r#"scale.factor: "0" is not a whole number between 1 and 100"#,
        ),
        (&[("factor", "101")], r#"scale.factor: "101" is not"#),
        (
            &[("type", "latency")],
            r#"scale.type: "latency" is not measured here; choose rps, capacity, cpu or queue"#,
        ),
        (&[("type", "")], r#"scale.type: "" is not measured here"#),
        (
            &[("target", "0")],
            r#"scale.target: "0" is not a number above 0"#,
        ),
        (&[("target", "NaN")], r#"scale.target: "NaN" is not"#),
        (&[("target", "inf")], r#"scale.target: "inf" is not"#),
        (
            &[("target-proportion", "1.1")],
            r#"scale.target-proportion: "1.1" is not a number above 0 and at most 1"#,
        ),
        (
            &[("zero", "yes")],
            r#"scale.zero: "yes" is neither true nor false"#,
        ),
        (
            &[("zero-duration", "15 minutes")],
            r#"scale.zero-duration: "15 minutes" is not a duration above zero, such as 90s or 15m"#,
        ),
        (
            &[("zero-duration", "0s")],
            r#"scale.zero-duration: "0s" is not"#,
        ),
    ] {
        let said = scale(&labels(all), 1, None).unwrap_err().to_string();
        assert!(said.contains(says), "{all:?}: {said}");
        assert!(said.starts_with("com.openfaas."), "{said}");
    }
}

#[test]
fn labels_of_others_mean_nothing() {
    let mut all = labels(&[]);
    all.insert("com.example.scale.min".to_owned(), "many".to_owned());
    assert_eq!(scale(&all, 100, None).unwrap(), good(&[]));
}

#[test]
fn an_alert_adds_its_part_up_to_the_maximum_and_gives_the_number_back() {
    let of = |all: &[_], current| alert(&labels(all), current, true).unwrap();
    assert_eq!(of(&[("max", "5"), ("factor", "20")], 1), Some(2));
    assert_eq!(
        of(&[("max", "5"), ("factor", "30")], 1),
        Some(3),
        "rounded up"
    );
    assert_eq!(of(&[("max", "5"), ("factor", "100")], 1), Some(5));
    assert_eq!(of(&[("max", "5")], 5), Some(5));
    assert_eq!(of(&[], 1), Some(3), "ten percent of twenty");
    assert_eq!(of(&[("min", "2"), ("max", "2")], 2), Some(2));
    assert_eq!(of(&[("max", "5")], 8), Some(8), "never takes away");
    assert_eq!(alert(&labels(&[("max", "5")]), 4, false), Ok(None));
    assert!(alert(&labels(&[("factor", "0")]), 1, true).is_err());
}
