"""The arena: votes that survive, ratings that agree with the paper, pairs that stay blind."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.evaluation.arena.arena import Arena
from phonofilm.evaluation.arena.arena_server import ArenaServer
from phonofilm.evaluation.arena.ratings import PRIOR, bradley_terry, expected_score, rate, win_shares
from phonofilm.evaluation.arena.votes import QUESTIONS, Vote, VoteFile

# MOVA-720p against each, as published: win, tie, lose in percent; and the Elo ratings that were published with them.
PUBLISHED = {"WAN2.1+MMAudio": (71.9, 11.6, 16.4), "OVI": (70.3, 13.9, 15.8), "LTX-2": (51.5, 11.4, 37.1)}
ELO = {"MOVA-720p": 1113.8, "LTX-2": 1074.1, "OVI": 925.4, "WAN2.1+MMAudio": 886.9}


def _vote(left: str, right: str, answer: str, clip: str = "1") -> Vote:
    return Vote(clip, left, right, "overall", answer, "2026-11-27T00:00:00+00:00")  # type: ignore[arg-type]


def _published_votes() -> list[Vote]:
    votes = []
    for opponent, shares in PUBLISHED.items():
        for answer, share in zip(("left", "tie", "right"), shares, strict=True):
            votes += [_vote("MOVA-720p", opponent, answer)] * round(10 * share)
    return votes


def test_the_papers_win_rates_are_those_of_its_elo_differences() -> None:
    for opponent, (win, tie, _) in PUBLISHED.items():
        expected = expected_score(ELO["MOVA-720p"] - ELO[opponent])
        assert expected == pytest.approx((win + tie / 2) / 100, abs=0.03)


def test_ratings_from_the_papers_win_rates_are_its_elo_ratings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phonofilm.evaluation.arena.ratings.RESAMPLES", 20)
    monkeypatch.setattr("phonofilm.evaluation.arena.ratings.ORDERS", 5)
    found = {one.model: one for one in rate(_published_votes())}
    for name, published in ELO.items():
        difference = found["MOVA-720p"].bradley_terry - found[name].bradley_terry
        assert difference == pytest.approx(ELO["MOVA-720p"] - published, abs=25)
        low, high = found[name].low, found[name].high
        assert low is not None
        assert high is not None
        assert low < found[name].bradley_terry < high
        assert found[name].elo == pytest.approx(found[name].bradley_terry, abs=60)
    assert sum(one.elo for one in found.values()) == pytest.approx(4000)
    (shares,) = [one for one in win_shares(_published_votes()) if (one.model, one.opponent) == ("MOVA-720p", "OVI")]
    assert (shares.win, shares.tie, shares.lose) == pytest.approx((0.703, 0.139, 0.158), abs=0.001)


def test_ratings_of_a_long_chain_are_the_likeliest() -> None:
    names = [f"m{number:02}" for number in range(13)]
    wins = np.zeros((1, 13, 13))
    for one in range(12):
        wins[0, one, one + 1], wins[0, one + 1, one] = 30, 10
    (fitted,) = bradley_terry(wins)
    assert (round(fitted[0]), round(fitted[-1])) == (2122, -122)
    logs = (fitted - fitted.mean()) * np.log(10) / 400
    expected = 1 / (1 + np.exp(logs[None] - logs[:, None]))
    slope = wins[0].sum(1) + PRIOR / 2 - ((wins[0] + wins[0].T) * expected).sum(1) - PRIOR / (1 + np.exp(-logs))
    assert np.abs(slope).max() < 1e-4
    one_sided = np.zeros((1, len(names), len(names)))
    one_sided[0, np.arange(12), np.arange(1, 13)] = 1000
    (fitted,) = bradley_terry(one_sided)
    assert (np.diff(fitted) < -1000).all()


def test_votes_that_cannot_differ_give_no_interval() -> None:
    for count in (1, 5):
        assert {(one.low, one.high) for one in rate([_vote("a", "b", "left")] * count)} == {(None, None)}
    two = rate([_vote("a", "b", "left"), _vote("a", "b", "right")])
    assert all(one.low is not None and one.high is not None and one.low < 1000 < one.high for one in two)


def test_a_model_that_always_won_has_a_rating() -> None:
    first, second = rate([_vote("a", "b", "left")] * 5)
    assert (first.model, second.model) == ("a", "b")
    assert 1000 < first.bradley_terry < 3000
    assert rate([]) == ()


def test_votes_survive_a_torn_line(tmp_path: Path) -> None:
    file = VoteFile(tmp_path / "votes.jsonl")
    file.append([_vote("a", "b", "left"), _vote("a", "b", "tie")])
    with file.path.open("ab") as stream:
        stream.write(b'{"clip": "2", "le')
    assert len(file.read()) == 2
    file.append([_vote("b", "a", "right")])
    assert [vote.score for vote in file.read()] == [1.0, 0.5, 0.0]
    file.path.write_text('{"clip": 3}\n')
    with pytest.raises(InputError, match="line 1"):
        file.read()
    file.path.unlink()
    file.append([_vote("a", "b", "left")])
    good = file.path.read_bytes()
    for cut_off in (b'{"clip": "2", "le\n', b"this is no vote\n", b"this is no vote"):
        file.path.write_bytes(good + cut_off + (good if cut_off.endswith(b"\n") else b""))
        with pytest.raises(InputError, match="line 2, is no vote"):
            file.read()
    file.path.write_bytes(good.rstrip())  # edited by hand: whole, with no line break
    file.append([_vote("a", "b", "tie")])
    assert len(file.read()) == 2
    with pytest.raises(InputError, match="that is a folder"):
        VoteFile(tmp_path)


def test_two_arenas_on_one_file_see_each_others_votes(folders: list[Path], tmp_path: Path) -> None:
    first, second = (Arena(folders, tmp_path / "votes.jsonl", seed=0) for _ in range(2))
    pair = first.next_pair()
    first.vote(pair.key, {"overall": "left"})
    assert second.standings()["ratings"][0]["votes"] == 1
    assert second.progress == (1, 3)
    assert second.next_pair().clip != pair.clip


def test_votes_that_are_not_between_the_folders_are_left_out(folders: list[Path], tmp_path: Path) -> None:
    file = VoteFile(tmp_path / "votes.jsonl")
    assert Arena(folders, file.path).results() == ([], [f"no votes yet in {file.path}"])
    file.append(
        [_vote("firefly", "osprey", "left"), _vote("osprey", "osprey", "left"), _vote("owl", "osprey", "right")]
    )
    standings = Arena(folders, file.path).standings()
    assert {one["model"]: one["votes"] for one in standings["ratings"]} == {"firefly": 1, "osprey": 1}
    assert len(standings["win_shares"]) == 2
    said = "; ".join(standings["left_out"])
    assert said == (
        "1 vote of a model against itself left out; 1 vote left out, of models that are not in the folders: owl"
    )


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for name in ("firefly", "osprey"):
        (tmp_path / name).mkdir()
        for clip in ("1", "2", "3"):
            (tmp_path / name / f"{clip}.mp4").write_bytes(f"{name} {clip}".encode() * 10)
    return [tmp_path / "firefly", tmp_path / "osprey"]


def test_every_pair_is_shown_before_one_is_shown_again(folders: list[Path], tmp_path: Path) -> None:
    arena = Arena(folders, tmp_path / "votes.jsonl", seed=0)
    shown, sides = [], set()
    for _ in range(6):
        pair = arena.next_pair()
        assert arena.file_of(pair.key, "left").parent.name == pair.left
        sides.add(pair.left)
        shown.append(arena.vote(pair.key, dict.fromkeys(QUESTIONS, "left")).clip)
    assert sorted(shown[:3]) == sorted(shown[3:]) == ["1", "2", "3"]
    assert sides == {"firefly", "osprey"}
    again = Arena(folders, tmp_path / "votes.jsonl")
    assert again.progress == (3, 3)
    assert sum(one["votes"] for one in again.standings("sync")["ratings"]) == 12
    with pytest.raises(InputError, match="closed"):
        arena.vote(pair.key, {"overall": "tie"})
    with pytest.raises(InputError, match="no vote"):
        arena.vote(arena.next_pair().key, {"overall": "both"})


def test_clips_in_folders_of_one_name_are_pairs(tmp_path: Path) -> None:
    for name in ("osprey/set1/1", "osprey/set2/1", "firefly/set1/1", "firefly/set2/2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    arena = Arena([tmp_path / "firefly", tmp_path / "osprey"], tmp_path / "v")
    assert (arena.next_pair().clip, arena.progress, arena.alone) == ("set1/1", (0, 1), 2)


def test_folders_that_cannot_be_compared_are_refused(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two or more"):
        Arena(folders[:1], tmp_path / "v")
    for clip in folders[1].iterdir():
        clip.rename(clip.with_name(f"other-{clip.name}"))
    with pytest.raises(InputError, match="no clip is in two"):
        Arena(folders, tmp_path / "v")


@pytest.fixture
def server(folders: list[Path], tmp_path: Path) -> Iterator[ArenaServer]:
    with ArenaServer(Arena(folders, tmp_path / "votes.jsonl", seed=1)) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _ask(server: ArenaServer, path: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(server.address + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=600) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_page_is_blind_until_the_vote_is_kept(server: ArenaServer, tmp_path: Path) -> None:
    assert b"firefly" not in _ask(server, "")[1]
    pair = json.loads(_ask(server, "pair")[1])
    assert set(pair) == {"key", "clip", "done", "total"}
    status, part = _ask(server, f"media/{pair['key']}/left", Range="bytes=0-3")
    assert (status, part) in ((206, b"fire"), (206, b"ospr"))
    named = json.loads(_ask(server, f"vote/{pair['key']}", json.dumps(dict.fromkeys(QUESTIONS, "tie")).encode())[1])
    assert set(named.values()) == {"firefly", "osprey"}
    assert len((tmp_path / "votes.jsonl").read_text().splitlines()) == 4
    assert len(json.loads(_ask(server, "standings/overall")[1])["ratings"]) == 2


def test_head_is_answered_as_get_without_the_content(server: ArenaServer) -> None:
    key = json.loads(_ask(server, "pair")[1])["key"]
    whole = _ask(server, f"media/{key}/left")[1]
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=600)) as connection:
        connection.request("HEAD", f"/media/{key}/left")
        reply = connection.getresponse()
        assert (reply.status, reply.headers["Content-Length"], reply.read()) == (200, str(len(whole)), b"")


def test_strange_requests_are_refused(server: ArenaServer) -> None:
    key = json.loads(_ask(server, "pair")[1])["key"]
    assert _ask(server, "elsewhere")[0] == 404
    assert _ask(server, "media/x/left")[0] == 400
    assert _ask(server, f"vote/{key}", b"[1]")[0] == 400
    assert _ask(server, f"vote/{key}", b"{}" * 4000)[0] == 400
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=600)) as connection:
        connection.request("POST", f"/vote/{key}", headers={"Content-Length": "abc"})
        assert connection.getresponse().status == 400
    assert _ask(server, "pair", Host="elsewhere.example")[0] == 403
    for origin in ("http://elsewhere.example", f"https://127.0.0.1:{server.server_port}", "http://[", "null"):
        assert _ask(server, f"vote/{key}", b'{"overall": "tie"}', Origin=origin)[0] == 403
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=600)) as connection:
        connection.request("GET", "//[", headers={"Host": f"127.0.0.1:{server.server_port}"})
        assert connection.getresponse().status == 404


def test_a_browser_that_hangs_up_is_no_error(server: ArenaServer, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=600) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
        connection.sendall(b"GET /pair HT")
    assert _ask(server, "pair")[0] == 200
    server.shutdown()
    server.server_close()
    for thread in threading.enumerate():
        if thread.name.endswith("(process_request_thread)"):
            thread.join(60)
    assert capfd.readouterr().err == ""


def test_a_clip_that_was_removed_meanwhile_is_not_found(server: ArenaServer, folders: list[Path]) -> None:
    pair = json.loads(_ask(server, "pair")[1])
    for folder in folders:
        (folder / f"{pair['clip']}.mp4").unlink()
    status, said = _ask(server, f"media/{pair['key']}/left")
    assert status == 404
    assert "removed" in json.loads(said)["error"]


def test_the_command_prints_the_standings(folders: list[Path], tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    done = CliRunner().invoke(app, ["arena", *map(str, folders), "--votes", str(votes), "--results"])
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1)
    assert "no votes yet" in done.stdout
    VoteFile(votes).append([_vote("firefly", "osprey", "left")] * 3)
    done = CliRunner().invoke(app, ["arena", *map(str, folders), "--votes", str(votes), "--results"])
    assert done.exit_code == 0, done.output
    assert "100.0%" in done.output
    assert "the votes do not say" in done.output
    done = CliRunner().invoke(app, ["arena", str(folders[0]), "--votes", str(votes), "--results"])
    assert done.exit_code == 2
