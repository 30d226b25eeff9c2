"""Whose run it is: only this user's own may name code to import."""

import json
import stat
import threading

import pytest

from trmrl import trust
from trmrl.trust import check_trust, is_signed, names_foreign_code, sign
from trmrl.types import TrmrlError

CONFIG = {"kind": "Config", "env": "own.worlds:make", "agent": {"rate": 3e-4, "hidden": [4, 4]}}


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """This user's folder of state, empty."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_signature_holds_for_the_same_config_and_no_other(state):
    signature = sign(CONFIG)
    assert len(bytes.fromhex(signature)) == 32
    assert signature == sign(CONFIG)
    read_back = json.loads(json.dumps(dict(reversed(CONFIG.items()))))
    assert is_signed(read_back, signature)
    assert not is_signed(CONFIG | {"env": "own.worlds:other"}, signature)
    (state / "trmrl" / "secret").write_bytes(bytes(32))
    assert not is_signed(CONFIG, signature)  # somebody else's


@pytest.mark.parametrize("forged", ["", "00" * 32, "ÿ" * 64, "\ud800", None, 3, ["x"]])
def test_a_forged_signature_is_none(forged):
    sign(CONFIG)
    assert not is_signed(CONFIG, forged)


def test_the_secret_is_the_user_s_alone(state):
    sign(CONFIG)
    secret = state / "trmrl" / "secret"
    assert len(secret.read_bytes()) == 32 and any(secret.read_bytes())
    assert (mode(secret), mode(secret.parent)) == (0o600, 0o700)
    assert [path.name for path in secret.parent.iterdir()] == ["secret"]


def test_without_xdg_the_secret_is_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for unset in ("", "relative/state"):  # which the standard says to ignore
        monkeypatch.setenv("XDG_STATE_HOME", unset)
        assert is_signed(CONFIG, sign(CONFIG))
    assert (tmp_path / "home" / ".local" / "state" / "trmrl" / "secret").is_file()


def test_only_signing_makes_a_secret(state):
    assert not is_signed(CONFIG, "00" * 32)
    assert not state.exists()


def test_of_many_who_make_it_the_first_one_s_is_kept(state, monkeypatch):
    """All find none before any has made it."""
    barrier, signatures = threading.Barrier(8), []

    def make():
        barrier.wait()
        return trust._make_secret()

    threads = [threading.Thread(target=lambda: signatures.append(make())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(signatures) == 8
    assert set(signatures) == {(state / "trmrl" / "secret").read_bytes()}
    assert len(list((state / "trmrl").iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_what_is_no_secret_signs_nothing(state, content):
    (state / "trmrl").mkdir(parents=True)
    (state / "trmrl" / "secret").write_bytes(content)
    assert sign(CONFIG) == ""
    assert not is_signed(CONFIG, "")


def test_where_no_secret_can_be_written_nothing_is_signed(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert sign(CONFIG) == ""
    assert not is_signed(CONFIG, "")


def test_a_run_that_is_not_signed_needs_trust(tmp_path):
    check_trust(CONFIG, sign(CONFIG), tmp_path, trust=False)
    check_trust(CONFIG, None, tmp_path, trust=True)
    check_trust(CONFIG | {"env": "grid-navi"}, None, tmp_path, trust=False)
    with pytest.raises(TrmrlError) as refused:
        check_trust(CONFIG, "00" * 32, tmp_path, trust=False)
    assert str(refused.value) == (
        f"{tmp_path} is not signed by you, and its env 'own.worlds:make' would import the module "
        "'own.worlds': pass --trust if you wrote that code or read it"
    )


def test_foreign_code_is_what_an_env_with_a_colon_names():
    assert names_foreign_code({"env": "a:b+task"}) and names_foreign_code({"env": ":"})
    assert not names_foreign_code({"env": "grid-navi"}) and not names_foreign_code({})
    assert not names_foreign_code({"env": ["a:b"]})  # refused for its type by who reads it
