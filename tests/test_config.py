"""The configuration: every mistake with its place, what was found, what is allowed; all of them at once."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_agent import config
from edge_agent.commands.example import example_config
from edge_agent.config import (
    PASSWORD_VARIABLE,
    AlarmLimits,
    Config,
    FileSource,
    SerialSource,
    SimulatedSource,
    default_device,
    load,
)
from edge_agent.errors import ConfigError
from edge_agent.section import topic_part

SIMULATED = """
[[stream]]
name = "bed1"
[stream.source]
type = "simulated"
"""
SERIAL = """
[[stream]]
name = "bed2"
[stream.source]
type = "serial"
port = "/dev/null"
fs = 250
columns = ["II", "ABP"]
"""
Write = Callable[[str], Path]


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # unknown keys, in every table: the nearest name, or all that are known
        ("[mqtt]\nhots = 'x'" + SIMULATED, "mqtt.hots: unknown key; did you mean 'host'?"),
        ("[device]\nname = 'x'" + SIMULATED, "device.name: unknown key; known: id"),
        ("heath_s = 4" + SIMULATED, "heath_s: unknown key; did you mean 'health_s'?"),
        ("[inference]\nmodel_dir = 'x'" + SIMULATED, "inference.model_dir: unknown key; did you mean 'models_dir'?"),
        (
            SIMULATED + "[stream.alarms]\nasystole = 4",
            "stream[0] (bed1).alarms.asystole: unknown key; did you mean 'asystole_s'?",
        ),
        (SERIAL + "bauds = 9600", "stream[0] (bed2).source.bauds: unknown key; did you mean 'baud'?"),
        (SIMULATED + "port = 'x'", "stream[0] (bed1).source.port: unknown key; known: type, fs,"),
        # missing
        ("health_s = 5", "stream: is missing"),
        (SERIAL.replace("fs = 250", ""), "stream[0] (bed2).source.fs: is missing"),
        (SIMULATED.replace('name = "bed1"', ""), "stream[0].name: is missing"),
        (SIMULATED.replace('[stream.source]\ntype = "simulated"', ""), "stream[0] (bed1).source: is missing"),
        ("stream = []", "stream: should have at least one"),
        # bounds and types
        ("[mqtt]\nport = 0" + SIMULATED, "mqtt.port: found 0; should be greater than or equal to 1"),
        ("[mqtt]\nport = 1883.5" + SIMULATED, "mqtt.port: found 1883.5; should be a whole number"),
        ("[mqtt]\nport = '1883'" + SIMULATED, "mqtt.port: found '1883'; should be a whole number"),
        ("health_s = '10'\n" + SIMULATED, "health_s: found '10'; should be a number"),
        (SIMULATED + "forever = 1", "stream[0] (bed1).source.forever: found 1; should be true or false"),
        (SIMULATED + "speed = true", "stream[0] (bed1).source.speed: found true; should be a number"),
        (
            SIMULATED + "[stream.alarms]\nlead_off_s = true",
            "stream[0] (bed1).alarms.lead_off_s: found true; should be a number",
        ),
        ("[mqtt]\nqos_beats = 2" + SIMULATED, "mqtt.qos_beats: found 2; should be 0 or 1"),
        ("[mqtt]\nhost = 3" + SIMULATED, "mqtt.host: found 3; should be text"),
        ("mqtt = 3" + SIMULATED, "mqtt: found 3; should be a table"),
        (SIMULATED + "fs = 99.9", "stream[0] (bed1).source.fs: found 99.9; should be greater than or equal to 100"),
        (SIMULATED + "fs = nan", "stream[0] (bed1).source.fs: found nan; should be a finite number"),
        (SIMULATED + "speed = inf", "stream[0] (bed1).source.speed: found inf; should be a finite number"),
        (SIMULATED + "speed = 0", "stream[0] (bed1).source.speed: found 0; should be greater than 0"),
        (
            SIMULATED + "[stream.alarms]\npressure_duration_s = 3",
            "stream[0] (bed1).alarms.pressure_duration_s: found 3; should be greater than or equal to 5",
        ),
        # one of several
        (
            SIMULATED + "channels = ['II', 'X']",
            "stream[0] (bed1).source.channels[1]: found 'X'; should be 'II', 'V', 'ABP' or 'PLETH'",
        ),
        (SIMULATED + "channels = ['II', 'II']", "stream[0] (bed1).source.channels: names a channel twice"),
        (SIMULATED + "channels = []", "stream[0] (bed1).source.channels: should have at least one"),
        (
            SERIAL + "separator = '|'",
            "stream[0] (bed2).source.separator: found '|'; should be ',', ';', 'tab' or 'blank'",
        ),
        (
            SIMULATED.replace("simulated", "seril"),
            "stream[0] (bed1).source.type: found 'seril', allowed: simulated, file, serial, board, stdin, tcp, "
            "mqtt, lsl; did you mean 'serial'?",
        ),
        (SIMULATED.replace('type = "simulated"', ""), "stream[0] (bed1).source.type: is missing, allowed: simulated,"),
        (SIMULATED + "[stream.signals]\nII = 'eeg'", "stream[0] (bed1).signals.II: found 'eeg'; should be"),
        # one problem for one mistake, where a value may be of two types
        (SIMULATED + "script = 3", "stream[0] (bed1).source.script: found 3; should be a path"),
        (SERIAL + "scale = 'x'", "stream[0] (bed2).source.scale: found 'x'; should be a number, or a list"),
        # things that belong together
        (SERIAL + "scale = [1.0]", "stream[0] (bed2).source: scale has 1 numbers for 2 columns"),
        (SERIAL.replace('["II", "ABP"]', '["-", "-"]'), "stream[0] (bed2).source: columns names no signal"),
        (SERIAL.replace('["II", "ABP"]', '["II", "II"]'), "stream[0] (bed2).source: columns names a signal twice"),
        (SIMULATED + SIMULATED, "stream: the name 'bed1' stands twice"),
        (
            SIMULATED.replace("[stream.source]", "detector = 'best'\n[stream.source]"),
            "stream[0] (bed1).detector: found 'best'; is none of native",
        ),
        # the file itself
        ("[[stream]\n", "is not valid TOML: "),
        ("a = 1\na = 2\n", "is not valid TOML: Cannot overwrite a value"),
    ],
)
def test_a_mistake_has_its_place_and_what_is_allowed(text: str, problem: str, write: Write) -> None:
    (found,) = problems(write(text))
    assert found.startswith(problem)
    assert "\n" not in found


def test_all_mistakes_are_said_at_once(write: Write) -> None:
    text = "helth_s = 1\n[mqtt]\nport = -1\n" + SIMULATED + "fs = 1\nsped = 2\n" + SERIAL + "scale = [1.0]\n"
    found = problems(write(text))
    assert [problem.split(": ")[0] for problem in sorted(found)] == [
        "helth_s",
        "mqtt.port",
        "stream[0] (bed1).source.fs",
        "stream[0] (bed1).source.sped",
        "stream[1] (bed2).source",
    ]


def test_missing_files_and_ports_are_said_at_once(write: Write) -> None:
    text = (
        '[mqtt]\npassword_file = "nowhere"\n[inference]\nmodels_dir = "no models"\n'
        + SIMULATED
        + 'script = "no.toml"\n'
        + SERIAL.replace("/dev/null", "/dev/nothing")
        + '[[stream]]\nname = "c"\n[stream.source]\ntype = "file"\npath = "no/record"\n'
        + '[[stream]]\nname = "d"\n[stream.source]\ntype = "file"\npath = ""\n'
    )
    places = [problem.split(": ")[0] for problem in problems(write(text))]
    assert places == [
        "mqtt.password_file",
        "inference.models_dir",
        "stream[0] (bed1).source.script",
        "stream[1] (bed2).source.port",
        "stream[2] (c).source.path",
        "stream[3] (d).source.path",
    ]


@pytest.mark.parametrize("port", ["socket://127.0.0.1:4000", "loop://", "/dev/null"])
def test_a_port_that_may_come_or_is_an_address_is_no_mistake(port: str, write: Write) -> None:
    load(write(SERIAL.replace("/dev/null", port)))
    load(write(SERIAL.replace("/dev/null", "/dev/nothing") + "wait_for_port = true"))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (nothing,) = problems(tmp_path / "nothing.toml")
    assert "edge-agent example > nothing.toml" in nothing
    (folder,) = problems(tmp_path)
    assert "is a folder" in folder
    (tmp_path / "latin.toml").write_bytes("# é".encode("latin-1"))
    (text,) = problems(tmp_path / "latin.toml")
    assert "UTF-8" in text


@pytest.mark.parametrize("key", ["device.id", "mqtt.base", "stream[0] ({}).name"])
@pytest.mark.parametrize("name", ["", "a/b", "a+b", "#", "$SYS", "nul\\u0000", "x" * 101])
def test_what_cannot_be_a_part_of_a_topic_is_refused(key: str, name: str, write: Write) -> None:
    table, field = key.split(".")
    text = SIMULATED.replace("bed1", name) if field == "name" else f'[{table}]\n{field} = "{name}"' + SIMULATED
    (problem,) = problems(write(text))
    shown = name.replace("\\u0000", "\0")
    assert problem.startswith(key.format(shown) if name else key.replace(" ({})", ""))
    assert ("100 characters" if len(name) > 100 else "plain topic part") in problem


@pytest.mark.parametrize("name", ["bay\\n7", "\\u0007", "a\\u007fb", "\\u009b31m", "\\ufffe", "\\u2028", "\\ufdd0"])
@pytest.mark.parametrize("key", ["[device]\nid", "[mqtt]\nbase", "[home_assistant]\nprefix"])
def test_no_control_character_stands_in_a_topic(key: str, name: str, write: Write) -> None:
    (problem,) = problems(write(f'{key} = "{name}"' + SIMULATED))
    assert "control characters" in problem
    (problem,) = problems(write(SIMULATED.replace("bed1", name)))
    assert "control characters" in problem
    (problem,) = problems(
        write(
            SIMULATED.partition("[stream.source]")[0]
            + f"""[stream.source]
type = "mqtt"
topic = "raw/{name}"
"""
        )
    )
    assert "control characters" in problem


HOSTS = ["", ".", "a..b", "x" * 64, "x" * 64 + ".ward", "a b", "ward/7", "http://broker", "a\\u0000b", "[::1]",
         ".".join(["x" * 60] * 5), "\\u00e4" * 63]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_what_no_host_can_be_called_is_refused(host: str, write: Write) -> None:
    """A resolver would say so with an error that no network library catches, on the broker's thread."""
    source = SIMULATED.partition("[stream.source]")[0] + "[stream.source]\n"
    lines = 'fs = 250\ncolumns = ["II"]\n'
    for text in (
        f'[mqtt]\nhost = "{host}"' + SIMULATED,
        f'[metrics]\nhost = "{host}"' + SIMULATED,
        source + f'type = "tcp"\nport = 9\n{lines}host = "{host}"\n',
        source + f'type = "mqtt"\ntopic = "raw/bed1"\nbroker = {{ host = "{host}" }}\n',
    ):
        (problem,) = problems(write(text))
        assert "host: " in problem
        assert "neither a host's name nor an address" in problem


@pytest.mark.parametrize("port", ["socket://a..b:9", "rfc2217://" + "x" * 64 + ":9", "SOCKET://:9"])
def test_a_port_elsewhere_needs_a_host(port: str, write: Write) -> None:
    (problem,) = problems(write(SERIAL.replace("/dev/null", port)))
    assert "neither a host's name nor an address" in problem


@pytest.mark.parametrize(
    "host",
    ["localhost", "broker.ward7.example.", "b_1-x", "10.0.0.7", "::1", "fe80::1%eth0", "bücher.example", "x" * 63],
)
def test_hosts_that_there_may_be(host: str, write: Write) -> None:
    assert load(write(f'[mqtt]\nhost = "{host}"' + SIMULATED)).mqtt.host == host


@pytest.mark.parametrize("name", ["Bett 1", "å", "a$", "x" * 100])
def test_other_names_are_fine(name: str, write: Write) -> None:
    assert load(write(SIMULATED.replace("bed1", name))).stream[0].name == name


def test_the_agent_s_own_topic_is_no_stream(write: Write) -> None:
    (problem,) = problems(write(SIMULATED.replace("bed1", "bridge")))
    assert "'bridge' is the agent's own topic" in problem


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "etc"
    (folder / "models").mkdir(parents=True)
    for name in ("secret", "script.toml", "a.csv", "100.hea"):
        (folder / name).write_text("x", encoding="utf-8")
    (folder / "edge.toml").write_text(
        '[mqtt]\npassword_file = "secret"\n[inference]\nmodels_dir = "models"\n'
        + SIMULATED
        + 'script = "script.toml"\n'
        + '[[stream]]\nname = "c"\n[stream.source]\ntype = "file"\npath = "a.csv"\n'
        + f'[[stream]]\nname = "d"\n[stream.source]\ntype = "file"\npath = "{folder}/100"\n',
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    loaded = load(Path("etc/edge.toml"))
    monkeypatch.chdir("/")  # a daemon does
    assert loaded.mqtt.password_file == folder / "secret"
    assert loaded.mqtt.password() == "x"
    assert loaded.inference.models_dir == folder / "models"
    sources = [stream.source for stream in loaded.stream]
    assert isinstance(sources[0], SimulatedSource)
    assert isinstance(sources[1], FileSource)
    assert isinstance(sources[2], FileSource)
    assert [sources[0].script, sources[1].path, sources[2].path] == [
        folder / "script.toml",
        folder / "a.csv",
        folder / "100",
    ]


def test_built_in_scripts_are_no_paths(write: Write) -> None:
    for name in ("demo", "sinus"):
        source = load(write(SIMULATED + f'script = "{name}"')).stream[0].source
        assert isinstance(source, SimulatedSource)
        assert source.script == name


def test_secrets_are_never_published(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hidden-place").write_text("open sesame\n", encoding="utf-8")
    monkeypatch.setenv(PASSWORD_VARIABLE, "swordfish")
    loaded = load(write('[mqtt]\nusername = "alibaba"\npassword_file = "hidden-place"' + SIMULATED))
    assert loaded.mqtt.password() == "open sesame"  # the file wins, without its line's end
    shown = json.dumps(loaded.public())
    for secret in ("open sesame", "swordfish", "alibaba", "hidden-place"):
        assert secret not in shown
    assert loaded.public()["mqtt"]["password_file"] == "(set)"
    loaded = load(write(SIMULATED))
    assert loaded.mqtt.password() == "swordfish"
    assert "swordfish" not in json.dumps(loaded.public()) + repr(loaded)
    assert loaded.public()["mqtt"]["username"] is None
    assert loaded.public()["mqtt"]["websocket_path"] == "/mqtt"
    broker = '[mqtt]\nwebsocket_path = "/mqtt?token=abracadabra?x=hocuspocus"\n'
    source = 'type = "mqtt"\ntopic = "raw"\nbroker = { websocket_path = "/own?token=simsalabim" }'
    shown = json.dumps((loaded := load(write(broker + SIMULATED.replace('type = "simulated"', source)))).public())
    assert not any(secret in shown for secret in ("abracadabra", "hocuspocus", "simsalabim"))
    assert loaded.public()["mqtt"]["websocket_path"] == "/mqtt?(set)"
    assert loaded.public()["stream"][0]["source"]["broker"]["websocket_path"] == "/own?(set)"
    loaded = load(write(SIMULATED))
    monkeypatch.delenv(PASSWORD_VARIABLE)
    assert loaded.mqtt.password() is None


def test_a_password_in_the_file_itself_is_refused(write: Write) -> None:
    (problem,) = problems(write('[mqtt]\npassword = "open sesame"' + SIMULATED))
    assert "mqtt.password: unknown key; did you mean 'password_file'?" in problem
    assert "sesame" not in problem


def test_what_is_published_is_json_and_says_the_limits(write: Write) -> None:
    shown = json.loads(json.dumps(load(write(SIMULATED + "[stream.alarms]\nasystole_s = 6")).public()))
    assert shown["stream"][0]["alarms"]["asystole_s"] == 6
    assert shown["stream"][0]["alarms"]["bradycardia_per_min"] == AlarmLimits().bradycardia_per_min


def test_the_shipped_configuration_loads_and_keeps_to_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "edge-agent.toml"
    path.write_text(example_config(), encoding="utf-8")
    loaded = load(path)
    assert loaded.mqtt == Config.model_validate({"stream": [{"name": "x", "source": {"type": "simulated"}}]}).mqtt
    assert loaded.stream[0].alarms == AlarmLimits()
    # What it shows as a comment must be true as well.
    lines = [line.removeprefix("# ") for line in example_config().splitlines() if line.startswith("# ")]
    text = "\n".join(line for line in lines if " = " in line and not line.startswith(("id", "username", "password")))
    serial = (
        load(tmp_path / "serial.toml")
        if (tmp_path / "serial.toml").write_text(
            f'[[stream]]\nname = "x"\n[stream.source]\nwait_for_port = true\n{text}', encoding="utf-8"
        )
        else None
    )
    assert serial is not None
    assert isinstance(serial.stream[0].source, SerialSource)


def test_nothing_can_be_changed_after_loading(write: Write) -> None:
    loaded = load(write(SIMULATED))
    with pytest.raises(ValueError, match="frozen"):
        loaded.stream[0].alarms.asystole_s = 1


@pytest.mark.parametrize(
    ("host", "device"),
    [
        ("ward3-pi7", "ward3-pi7"),
        ("ward 3/pi+7#", "ward-3-pi-7"),
        ("$SYS", "SYS"),
        ("pi.local.", "pi.local"),
        ("", "edge"),
        ("---", "edge"),
        ("å", "edge"),
    ],
)
def test_the_device_is_named_after_the_host(host: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert default_device() == device


@given(st.text(max_size=70))
def test_any_host_name_makes_a_device(host: str) -> None:
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(socket, "gethostname", lambda: host)
        assert topic_part(default_device())


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
known_names = st.sampled_from(
    ["stream", "mqtt", "device", "name", "source", "type", "scale", "alarms", "port", "script"]
)
table = st.dictionaries(known_names, json_like | st.sampled_from(["serial", "simulated", "file"]), max_size=5)


@given(
    st.dictionaries(
        known_names, json_like | table | st.lists(table | st.fixed_dictionaries({"source": table})), max_size=4
    )
)
def test_whatever_stands_in_it_the_problems_can_be_said(data: dict[str, object]) -> None:
    try:
        Config.model_validate(data)
    except ValidationError as error:
        said = list(config._problems(error, data))
        assert said
        assert all(": " in problem for problem in said)


def test_defaults_lie_within_their_own_bounds() -> None:
    """A default is not checked by itself."""
    for source in (
        {"type": "simulated"},
        {"type": "file", "path": "x"},
        {"type": "serial", "port": "x", "fs": 1, "columns": ["a"]},
    ):
        made = Config.model_validate({"stream": [{"name": "x", "source": source}]})
        again = Config.model_validate(made.model_dump())
        assert again == made


def test_limits_that_contradict_each_other_are_refused(write: Write) -> None:
    for slow, fast in itertools.product((10, 79.9, 120), (80, 300)):
        text = SIMULATED + f"[stream.alarms]\nbradycardia_per_min = {slow}\ntachycardia_per_min = {fast}"
        if slow < fast:
            limits = load(write(text)).stream[0].alarms
            assert (limits.bradycardia_per_min, limits.tachycardia_per_min) == (slow, fast)
        else:
            with pytest.raises(ConfigError, match=r"alarms: bradycardia_per_min \(120\) must be below .* \(80\)"):
                load(write(text))


def test_a_whole_number_is_a_number(write: Write) -> None:
    stream = load(write(SIMULATED + "speed = 2\n[stream.alarms]\nasystole_s = 5\noff = ['pause']")).stream[0]
    assert isinstance(stream.source, SimulatedSource)
    assert (stream.source.speed, stream.alarms.asystole_s) == (2.0, 5.0)
    assert stream.alarms.off == frozenset({"pause"})
