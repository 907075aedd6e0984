// Writes a ZIP archive that stores its files as they are: pictures are compressed already. (APPNOTE.TXT, 4.3)
const LIMITS = { files: 0xffff, bytes: 0xffffffff }; // without ZIP64
const VERSION = 20; // folders
const UTF8 = 0x800; // the flag of names in UTF-8
const NEW_YEAR_1980 = 0x21; // the first date there is

const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

export function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

const short = (value) => [value & 0xff, value >>> 8];
const long = (value) => [...short(value & 0xffff), ...short(value >>> 16)];
const record = (...fields) => Uint8Array.from(fields.flat());

// `files` are pairs of a path and a File, `tell` is called with the number of those that are read. The archive refers to
// the files, so it takes no memory for them. Throws a RangeError above the limits of the format, and what the browser
// throws when a file has changed on disk.
export async function zip(files, tell = () => {}) {
  check(files);
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [index, [path, file]] of files.entries()) {
    const name = new TextEncoder().encode(path);
    const sum = crc32(new Uint8Array(await file.arrayBuffer()));
    const entry = [
      short(VERSION), short(UTF8), short(0), short(0), short(NEW_YEAR_1980), // not compressed, at midnight
      long(sum), long(file.size), long(file.size), short(name.length), short(0),
    ].flat();
    parts.push(record(long(0x04034b50), entry), name, file);
    directory.push(record(
      long(0x02014b50), short(VERSION), entry, short(0), short(0), short(0), long(0), long(offset),
    ), name);
    offset += 30 + name.length + file.size;
    tell(index + 1);
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record(
    long(0x06054b50), short(0), short(0), short(files.length), short(files.length), long(size), long(offset), short(0),
  );
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

function check(files) {
  const bytes = files.reduce((sum, [path, file]) => sum + file.size + 76 + 8 * path.length, 22);
  if (files.length > LIMITS.files) {
    throw new RangeError(`A ZIP file holds 65,535 pictures, not ${files.length.toLocaleString("en")}. Give a part of them.`);
  }
  if (bytes > LIMITS.bytes) {
    throw new RangeError(`A ZIP file holds 4.3 GB, and these pictures have ${(bytes / 1e9).toFixed(1)} GB. Give a part of them.`);
  }
}
