"""Runs a contract's checks here, without another pytest inside this one."""

import unittest

from sca_bench.contract.find import check_names


def failed_checks(contract, only=""):
    """Run all checks of a contract, or one; return name -> what is said where it fails."""
    failed = {}
    for name in check_names(contract()):
        if only and name != f"test_{only}":
            continue
        case = contract()
        case.setup_method()
        try:
            getattr(case, name)()
        except unittest.SkipTest:
            pass
        except Exception as error:
            failed[name.removeprefix("test_")] = error
        finally:
            case.teardown_method()
    return failed
