// The dialog that takes a photo. Without HTTPS the page may not use the camera, so the device's own app takes the photo.
import { byId } from "./element.js";

const dialog = byId("camera");
const viewfinder = byId("viewfinder");
const complaint = byId("camera-problem");
const shoot = byId("shoot");
let stream = null;
let hand = () => {};

const REASONS = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it in the address bar, or choose a file.",
  NotFoundError: "No camera was found. Choose a file instead.",
  NotReadableError: "Another program is using the camera. Close it, or choose a file.",
};

// Calls `give` with the photo as a File, if one is taken.
export async function photograph(give) {
  if (!navigator.mediaDevices?.getUserMedia) {
    byId("capture").click();
    return;
  }
  hand = give;
  complaint.hidden = true;
  shoot.disabled = true;
  dialog.showModal();
  try {
    const opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (!dialog.open) return release(opened);
    stream = opened;
    viewfinder.srcObject = opened;
    await viewfinder.play();
    shoot.disabled = false;
  } catch (error) {
    if (!dialog.open) return;
    complaint.textContent = REASONS[error.name] ?? "The camera cannot be used. Choose a file instead.";
    complaint.hidden = false;
  }
}

const release = (opened) => opened?.getTracks().forEach((track) => track.stop());

shoot.addEventListener("click", () => {
  const canvas = document.createElement("canvas");
  canvas.width = viewfinder.videoWidth;
  canvas.height = viewfinder.videoHeight;
  canvas.getContext("2d").drawImage(viewfinder, 0, 0);
  canvas.toBlob((blob) => {
    dialog.close();
    if (blob) hand(new File([blob], "photo.jpg", { type: "image/jpeg" }));
  }, "image/jpeg", 0.92);
});
byId("leave").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  release(stream);
  stream = null;
  viewfinder.srcObject = null;
});
