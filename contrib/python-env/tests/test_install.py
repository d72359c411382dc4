"""What `install` promises, with a stand-in for uv that builds a venv of one script in no time.

python -m pytest contrib/python-env/tests
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parents[1] / "install"

# uv venv ... DIR makes bin/python; uv pip install ... notes its arguments and waits if told to.
UV = """#!/bin/bash
echo "$@" >>"$UV_CALLS"
case $1 in
venv)
    for last; do :; done
    mkdir -p "$last/bin"
    printf '#!/bin/bash\\nexit ${IMPORTS:-0}\\n' >"$last/bin/python"
    chmod +x "$last/bin/python"
    ;;
pip)
    while [[ $# -gt 0 && $1 != --target ]]; do shift; done
    [[ -n ${2:-} ]] && mkdir -p "$2"
    while [[ -e $UV_HOLD ]]; do sleep 0.05; done
    ;;
esac
"""


class Site:
    """A home directory with the stand-in, and what install does in it."""

    def __init__(self, root: Path):
        self.root = root
        self.calls, self.hold, self.gpu = root / "calls", root / "hold", root / "gpu"
        uv = root / "uv"
        uv.write_text(UV)
        uv.chmod(0o755)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "XDG_CACHE_HOME": str(root / "cache"),
            "FORGE_UV": str(uv),
            "FORGE_GPU_DEVICE": str(self.gpu),
            "UV_CALLS": str(self.calls),
            "UV_HOLD": str(self.hold),
        }

    def start(self, *args: str, **env: str) -> subprocess.Popen:
        return subprocess.Popen(
            [INSTALL, *args],
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *args: str, **env: str) -> tuple[int, str, str]:
        p = self.start(*args, **env)
        out, err = p.communicate(timeout=60)
        return p.returncode, out, err

    def installs(self) -> list[str]:
        return [c for c in self.calls.read_text().splitlines() if c.startswith("pip install")]

    def venvs(self) -> list[Path]:
        return sorted((self.root / "cache" / "forge-ml").glob("venv-*"))

    def leftovers(self) -> list[Path]:
        return sorted((self.root / "cache" / "forge-ml").glob("building-*"))

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while not (self.calls.exists() and text in self.calls.read_text()):
            assert time.monotonic() < deadline, f"uv was never called with {text}"
            time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_prints_the_path_alone_on_stdout_and_the_phases_on_stderr(site: Site):
    code, out, err = site.run()
    assert code == 0, err
    assert out == f"{site.venvs()[0]}\n"
    for phase in ("uv: ", "packages: ", "check: "):
        assert phase in err
    assert "--require-hashes" in site.installs()[0] and "--compile-bytecode" in site.installs()[0]


def test_the_trl_with_a_ppo_trainer_lies_in_a_directory_of_its_own_by_its_hash_and_without_what_it_needs(site: Site):
    code, out, err = site.run("--trl-ppo")
    assert code == 0, err
    home = Path(out.strip())
    assert home.is_dir() and home.name.startswith("trl-ppo-") and out == f"{home}\n"
    assert "--require-hashes" in site.installs()[0] and "--no-deps" in site.installs()[0]
    assert site.run("--trl-ppo") == (0, out, "") and len(site.installs()) == 1
    assert site.leftovers() == [] and site.venvs() == []


@pytest.mark.parametrize("name", ["presidio", "stats", "mlflow"])
def test_what_only_a_figure_needs_lies_in_an_environment_of_its_own_by_its_hash(site: Site, name: str):
    code, out, err = site.run(f"--{name}")
    assert code == 0, err
    home = Path(out.strip())
    assert (home / "bin" / "python").exists() and home.name.startswith(f"{name}-") and out == f"{home}\n"
    assert "--require-hashes" in site.installs()[0] and f"{name}.txt" in site.installs()[0]
    assert site.run(f"--{name}") == (0, out, "") and len(site.installs()) == 1
    assert site.leftovers() == [] and site.venvs() == []


def test_a_second_time_it_only_looks(site: Site):
    first = site.run()
    best = 9.0
    for _ in range(5):
        start = time.monotonic()
        again = site.run()
        best = min(best, time.monotonic() - start)
        assert again == (0, first[1], "")
    assert len(site.installs()) == 1
    assert best < 0.05


def test_killed_in_the_middle_it_leaves_nothing_under_the_final_name_and_the_next_one_succeeds(site: Site):
    site.hold.touch()
    p = site.start()
    site.wait_for("pip install")
    os.killpg(p.pid, signal.SIGKILL)
    p.communicate()
    assert site.venvs() == []
    assert len(site.leftovers()) == 1
    site.hold.unlink()
    code, out, err = site.run()
    assert code == 0, err
    assert out.strip() == str(site.venvs()[0])
    assert site.leftovers() == []


def test_what_does_not_import_is_not_kept(site: Site):
    code, out, err = site.run(IMPORTS="1")
    assert (code, out, site.venvs()) == (1, "", [])
    assert "does not import" in err


def test_two_at_once_build_once(site: Site):
    site.hold.touch()
    first = site.start()
    site.wait_for("pip install")
    second = site.start()
    said = second.stderr.readline()
    assert "waiting" in said
    site.hold.unlink()
    assert first.communicate()[0] == second.communicate()[0] != ""
    assert len(site.installs()) == 1


def test_a_venv_whose_python_is_gone_is_built_anew(site: Site):
    site.run()
    (site.venvs()[0] / "bin" / "python").unlink()
    code, _, err = site.run()
    assert code == 0, err
    assert len(site.installs()) == 2


def test_python_older_than_3_10_is_refused_in_a_sentence(site: Site):
    old = site.root / "python3.8"
    old.write_text("#!/bin/bash\n[[ $1 == --version ]] && echo Python 3.8.1\nexit 1\n")
    old.chmod(0o755)
    code, out, err = site.run(FORGE_PYTHON=str(old))
    assert (code, out) == (1, "")
    assert "no Python 3.10 or newer" in err and "Python 3.8.1" in err


def locked_torch() -> str:
    lock = (INSTALL.parent / "requirements.lock").read_text()
    return next(line for line in lock.splitlines() if line.startswith("torch==")).split("==")[1].split()[0]


def test_without_a_gpu_a_cpu_wheel_of_the_locked_release_is_taken(site: Site):
    wheels = site.root / "wheels"
    wheels.mkdir()
    (wheels / f"torch-{locked_torch()}+cpu-cp311-cp311-linux_x86_64.whl").touch()
    code, _, err = site.run(PIP_FIND_LINKS=f"/nowhere {wheels}")
    assert code == 0, err
    rest, torch = site.installs()
    assert "--require-hashes" in rest and "rest.txt" in rest
    assert f"--no-index --find-links {wheels}" in torch
    names = [
        line.split("==")[0] for line in (site.venvs()[0] / "lock" / "rest.txt").read_text().splitlines() if "==" in line
    ]
    assert "transformers" in names and "pytest" in names
    assert [n for n in names if n.startswith(("nvidia-", "cuda-", "triton")) or n == "torch"] == []
    assert (site.venvs()[0] / "lock" / "torch.txt").read_text().startswith("torch==")


def test_a_cpu_wheel_of_another_release_is_not_taken(site: Site):
    (site.root / "torch-1.0.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    code, _, err = site.run(PIP_FIND_LINKS=str(site.root))
    assert code == 0 and "not a release that the lock names" in err
    assert "requirements.lock" in site.installs()[0]
    assert "CUDA build" in err and "GB" in err


def test_without_a_gpu_the_named_index_is_taken(site: Site):
    code, _, err = site.run(FORGE_TORCH_INDEX="https://wheels.example/cpu")
    assert code == 0, err
    assert "--default-index https://wheels.example/cpu" in site.installs()[1]


def test_with_a_gpu_it_is_the_cuda_build_whatever_is_named(site: Site):
    site.gpu.touch()
    code, _, err = site.run(FORGE_TORCH_INDEX="https://wheels.example/cpu")
    assert code == 0, err
    assert len(site.installs()) == 1 and "requirements.lock" in site.installs()[0]


def test_cpu_and_cuda_builds_do_not_share_a_name(site: Site):
    a = site.run()[1]
    b = site.run(FORGE_TORCH_INDEX="https://wheels.example/cpu")[1]
    assert a != b and len(site.venvs()) == 2


def test_the_lowest_packages_have_an_environment_of_their_own(site: Site):
    newest = site.run()[1]
    code, lowest, err = site.run("--lowest")
    assert code == 0, err
    assert newest != lowest and len(site.venvs()) == 2
    assert "requirements.lock" in site.installs()[0] and "lowest.lock" in site.installs()[1]
    assert "--require-hashes" in site.installs()[1]
    assert site.run("--lowest") == (0, lowest, "") and len(site.installs()) == 2


def test_the_lowest_packages_take_the_lowest_python_that_is_there(site: Site):
    (site.root / "bin").mkdir()
    for name, minor in (("python3", 13), ("python3.10", 10)):
        python = site.root / "bin" / name
        python.write_text(f"#!/bin/bash\n[[ $2 == *sys.exit* ]] || echo {site.root}/bin/3.{minor}\n")
        python.chmod(0o755)
    env = {"PATH": f"{site.root}/bin:{site.env['PATH']}"}
    for args, minor in ((("--lowest",), 10), ((), 13)):
        code, _, err = site.run(*args, **env)
        assert code == 0, err
        made = [c for c in site.calls.read_text().splitlines() if c.startswith("venv")][-1]
        assert f"--python {site.root}/bin/3.{minor} " in made


@pytest.mark.parametrize("args", [("--newest",), ("--lowest", "more")])
def test_an_argument_that_it_does_not_know_is_refused(site: Site, args):
    code, out, err = site.run(*args)
    assert (code, out) == (1, "") and "usage: install [--lowest | --uv | --trl-ppo | --presidio | --stats | --mlflow]" in err
