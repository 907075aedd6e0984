// Shrinks a large picture before it is sent: the network sees a thousandth of its pixels, and a phone's line is slow.
const SIDE = 1024; // pixels on the long side
const SMALL = 200_000; // bytes that are not worth shrinking
const QUALITY = 0.85;

// Returns the file itself if it is small, or if this browser cannot decode it; the service may.
export async function shrunk(file, side = SIDE, small = SMALL) {
  if (file.size <= small) return file;
  const bitmap = await createImageBitmap(file).catch(() => null); // upright, by its EXIF tag
  if (!bitmap) return file;
  const blob = await encoded(bitmap, Math.min(1, side / Math.max(bitmap.width, bitmap.height)));
  bitmap.close();
  return blob && blob.size < file.size ? new File([blob], file.name, { type: blob.type }) : file;
}

// Draws a bitmap or the frame of a video, and resolves with a JPEG; null without the memory for it.
export function encoded(source, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(scale * (source.videoWidth ?? source.width)));
  canvas.height = Math.max(1, Math.round(scale * (source.videoHeight ?? source.height)));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // under transparency, as the service does
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}
