"""An audit of a part of the standard library against an exact key: the sampled form of `make audit-proof`."""

import pytest

from tests import audit_proof

PART = ("asyncio", "email", "json", "logging", "xml", "argparse", "shelve", "cgitb", "functools", "distutils")


@pytest.fixture(scope="module")
def part():
    names = audit_proof.sources(PART)
    return names, [unit for name, path in names.items() for unit in audit_proof.key_of(path, name)]


def copied(names, folder):
    for name, path in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(path.read_bytes())
    return folder


def test_the_script_finds_the_faults_of_a_part_of_the_standard_library(part, tmp_path):
    names, key = part
    report, _ = audit_proof.audit(
        [copied(names, tmp_path / "lib")], f"script:{audit_proof.SCRIPT}", tmp_path / "run"
    )
    assert report["judged"] == report["candidates"]
    for rule, right, wrong, missed, units in audit_proof.measure(report, key):
        assert right >= 5, (rule, units)
        assert right >= 0.95 * (right + wrong)
        assert right >= 0.95 * (right + missed)


def test_what_is_measured_can_be_wrong(part):
    _, key = part
    wrong = [unit for unit in key if unit.is_wrong]
    all_found = [{"rule": unit.rule, "file": unit.file, "line": unit.first} for unit in wrong]
    for _, right, false, missed, _ in audit_proof.measure({"findings": all_found}, key):
        assert (right > 0, false, missed) == (True, 0, 0)
    for _, right, _, missed, _ in audit_proof.measure({"findings": []}, key):
        assert (right, missed > 0) == (0, True)
    nowhere = [{"rule": "bare-except", "file": "no.py", "line": 1}]
    assert audit_proof.measure({"findings": nowhere}, key)[0][2] == 1


def test_the_sample_is_sixty_places_and_half_of_them_are_faults():
    names = audit_proof.sources()
    key = [unit for name, path in names.items() for unit in audit_proof.key_of(path, name)]
    places = audit_proof.places(names)
    chosen = audit_proof.sample(names, places, key)
    assert sum(places[name] for name in chosen) == audit_proof.SAMPLE
    faults = sum(unit.is_wrong for unit in key if unit.file in chosen)
    assert 20 <= faults <= 40
