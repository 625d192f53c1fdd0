use super::*;

#[test]
fn a_panic_is_a_code() {
    assert_eq!(guard("cuFirst", || panic!("a defect")), Code::UNKNOWN);
    assert_eq!(guard("cuSecond", || Ok(())), Code::SUCCESS);
    assert_eq!(guard("cuThird", || Err(Code::NOT_READY)), Code::NOT_READY);
}

#[test]
fn calls_from_functions_that_streams_run_are_refused() {
    let mut inner = Code::SUCCESS;
    host_function(|| inner = guard("cuInner", || Ok(())));
    assert_eq!(inner, Code::NOT_PERMITTED);
    assert_eq!(guard("cuOuter", || Ok(())), Code::SUCCESS);
}
