use super::*;

fn parse(pairs: &[(&str, &str)]) -> Result<Settings, String> {
    Settings::parse(&|name| pairs.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned()))
}

#[test]
fn without_an_environment_an_h200_with_all_checks() {
    let settings = parse(&[]).unwrap();
    assert_eq!(settings.device.capability, (9, 0));
    assert!(settings.run.check.races && settings.run.check.uninitialized);
    assert!(settings.run.threads >= 1);
    assert_eq!((settings.counters, settings.fail, settings.version), (None, None, (13, 0)));
}

#[test]
fn every_variable_is_heard() {
    let settings = parse(&[
        ("WIKIGPT_EMU_ARCH", "sm_80"),
        ("WIKIGPT_EMU_THREADS", "3"),
        ("WIKIGPT_EMU_CHECK", "uninitialized"),
        ("WIKIGPT_EMU_COUNTERS", "counts.jsonl"),
        ("WIKIGPT_EMU_DRIVER", "12.4"),
        ("WIKIGPT_EMU_FAIL", "adamw:3"),
        ("WIKIGPT_EMU_MULTIPROCESSORS", "1"),
    ])
    .unwrap();
    assert_eq!((settings.device.capability, settings.device.multiprocessors), ((8, 0), 1));
    assert_eq!(settings.run.threads, 3);
    assert!(!settings.run.check.races && settings.run.check.uninitialized);
    assert_eq!(settings.counters, Some(PathBuf::from("counts.jsonl")));
    assert_eq!((settings.version, newest_ptx(settings.version)), ((12, 4), (8, 4)));
    assert_eq!(settings.fail, Some(Failing { kernel: "adamw".to_owned(), launch: 3 }));
}

#[test]
fn nonsense_is_refused_by_name() {
    for (name, value) in [
        ("WIKIGPT_EMU_ARCH", "sm_70"),
        ("WIKIGPT_EMU_THREADS", "0"),
        ("WIKIGPT_EMU_THREADS", "many"),
        ("WIKIGPT_EMU_CHECK", "races,all,everything"),
        ("WIKIGPT_EMU_DRIVER", "12.10"),
        ("WIKIGPT_EMU_DRIVER", "new"),
        ("WIKIGPT_EMU_MULTIPROCESSORS", "0"),
        ("WIKIGPT_EMU_FAIL", "adamw:0"),
        ("WIKIGPT_EMU_FAIL", "adamw:last"),
    ] {
        let why = parse(&[(name, value)]).unwrap_err();
        assert!(why.contains(name), "{why}");
    }
}

#[test]
fn checks_are_listed_by_name() {
    let check = |text| parse(&[("WIKIGPT_EMU_CHECK", text)]).unwrap().run.check;
    let (all, none) = (check::Options::ALL, check::Options::NONE);
    assert_eq!((check("all"), check("none")), (all, none));
    assert_eq!(check("races, proxy,uninitialized"), all);
    assert_eq!(check("proxy"), check::Options { proxy: true, ..none });
    let report = check::Options { report: true, ..all };
    assert_eq!((check("all,report"), check("report,all")), (report, report));
    assert_eq!(check("races,report"), check::Options { races: true, report: true, ..none });
}
