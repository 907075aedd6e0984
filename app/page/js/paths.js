// The path of each picture below the folder that was given, and the class that its folders name.
const paths = new WeakMap(); // of dropped files; the browser itself knows that of a chosen folder's
const SUFFIXES = /\.(avif|bmp|gif|heic|heif|jfif|jpe|jpe?g|png|tiff?|webp)$/i;

export function keepPath(file, path) {
  paths.set(file, path);
  return file;
}

export const pathOf = (file) => paths.get(file) ?? (file.webkitRelativePath || file.name);

// True if a file is named like a picture that the service may read.
export function isPicture(file) {
  if (file.name.startsWith(".")) return false; // macOS keeps a ._photo.jpg beside a photo.jpg
  return SUFFIXES.test(file.name) || (file.type.startsWith("image/") && file.type !== "image/svg+xml");
}

const folded = (name) => name.normalize("NFC").toLowerCase().replaceAll(/[\s_-]+/g, " ").trim();

// Returns a function from a path to the label that its nearest folder is named like, also in the plural; else undefined.
export function classReader(labels) {
  const classes = new Map();
  for (const ending of ["es", "s", ""]) {
    for (const label of labels) classes.set(folded(label) + ending, label);
  }
  return (path) => {
    const folders = path.split("/").slice(0, -1);
    return folders.reverse().map((folder) => classes.get(folded(folder))).find(Boolean);
  };
}
