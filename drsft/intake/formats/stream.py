"""Turns a stored file into bytes for a reader: decompressed, and text as UTF-8 without a byte-order mark.

Compression and encoding are detected from the first bytes, never from the name.
"""

import bz2
import codecs
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa

__all__ = ["PACKED_SUFFIXES", "BreaksOffError", "Stream"]

HEAD_BYTES = 64 << 10
BLOCK_BYTES = 256 << 10
PACKED_SUFFIXES = (".gz", ".zst", ".bz2", ".xz")


class BreaksOffError(ValueError):
    """Raised where a damaged or truncated file cannot be read on; what came before was read."""


class _Unpacker(Protocol):
    def read1(self, num_bytes: int, /) -> bytes: ...


def _unpack_zst(file: BinaryIO) -> _Unpacker:
    borrowed = io.BufferedReader(_Borrowed(file), BLOCK_BYTES)  # which is closed with the unpacker
    return cast(_Unpacker, pa.CompressedInputStream(pa.PythonFile(borrowed, mode="r"), "zstd"))


_UNPACKERS: dict[bytes, tuple[str, Callable[[Any], _Unpacker]]] = {
    b"\x1f\x8b": ("gzip", lambda file: gzip.GzipFile(fileobj=file)),
    b"\x28\xb5\x2f\xfd": ("zst", _unpack_zst),
    b"BZh": ("bz2", bz2.BZ2File),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMAFile),
}


class Stream:
    """A stored file that can be opened any number of times, but read by one reader at a time."""

    def __init__(self, file: BinaryIO, name: str, *, encoding: str | None = None) -> None:
        self.name = name
        self.stored = file
        start = file.read(8)
        self.packing = next((packed for magic, packed in _UNPACKERS.items() if start.startswith(magic)), None)
        with self._unpacked() as unpacked:
            head = _read_fully(unpacked, HEAD_BYTES)
        self.is_whole = len(head) < HEAD_BYTES
        self.encoding = encoding or json.detect_encoding(head[:4])
        self.head_bytes = head

    @property
    def is_packed(self) -> bool:
        return self.packing is not None

    @property
    def head(self) -> str:
        """The first 64 KiB of the file as text; bytes that are invalid in its encoding are replaced."""
        decoder = codecs.getincrementaldecoder(self.encoding)("replace")
        return decoder.decode(self.head_bytes, final=self.is_whole)

    def open(self) -> io.BufferedReader:
        """Opens the file at its start, decompressed, its text as UTF-8. Reading can raise BreaksOffError."""
        unpacked = self._unpacked()
        if self.encoding == "utf-8":
            return unpacked
        if self.encoding == "utf-8-sig":
            unpacked.read(len(codecs.BOM_UTF8))
            return unpacked
        return io.BufferedReader(_Recoded(unpacked, self.encoding), BLOCK_BYTES)

    def _unpacked(self) -> io.BufferedReader:
        self.stored.seek(0)
        raw: io.RawIOBase
        if self.packing is None:
            raw = _Borrowed(self.stored)
        else:
            name, unpack = self.packing
            raw = _Unpacked(unpack(self.stored), name)
        return io.BufferedReader(raw, BLOCK_BYTES)


def _read_fully(file: io.BufferedReader, num_bytes: int) -> bytes:
    """Returns up to `num_bytes` bytes.

    There are fewer if the file ends early, which its reader will report.
    """
    parts = bytearray()
    try:
        while len(parts) < num_bytes and (part := file.read1(num_bytes - len(parts))):
            parts += part
    except BreaksOffError:
        pass
    return bytes(parts)


class _Readable(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.next_bytes(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def next_bytes(self, num_bytes: int) -> bytes:
        raise NotImplementedError


class _Borrowed(_Readable):
    """A file object whose `close` leaves the stored file open."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def next_bytes(self, num_bytes: int) -> bytes:
        return self._file.read(num_bytes)


class _Unpacked(_Readable):
    def __init__(self, unpacker: _Unpacker, packing: str) -> None:
        self._unpacker = unpacker
        self._packing = packing

    def next_bytes(self, num_bytes: int) -> bytes:
        try:
            return self._unpacker.read1(num_bytes)  # the data before the file breaks off
        except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
            raise self._broken(error) from error
        except OSError as error:
            if error.errno is None:  # the unpacker's own; a disk's or a network's has a number
                raise self._broken(error) from error
            raise

    def _broken(self, error: Exception) -> BreaksOffError:
        return BreaksOffError(f"the file breaks off or is not {self._packing}: {str(error)[:100]}")


class _Recoded(_Readable):
    """A file in another encoding, read as UTF-8."""

    def __init__(self, file: io.BufferedReader, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._rest = b""

    def next_bytes(self, num_bytes: int) -> bytes:
        while not self._rest:
            data = self._file.read(BLOCK_BYTES)
            self._rest = self._decoder.decode(data, final=not data).encode("utf-8", "replace")
            if not data:
                break
        given, self._rest = self._rest[:num_bytes], self._rest[num_bytes:]
        return given
