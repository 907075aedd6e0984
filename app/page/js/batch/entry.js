// A picture of a batch and what is known of it. Pure functions.
//   file, path; prediction or problem, once there is an answer; folder: the label that its folder is named like;
//   correction: the label that the user gave it.

export const isDone = (entry) => Boolean(entry.prediction || entry.problem);

// "confident", "unsure", "none_of_these" or "failed"; undefined without an answer, or without a verdict in it.
export const stateOf = ({ prediction, problem }) => (problem ? "failed" : prediction?.verdict ?? undefined);

// The label that the picture should have had, if somebody said so.
export const truthOf = (entry) => entry.correction ?? entry.folder;

export const isMeasured = (entry) => Boolean(entry.prediction && truthOf(entry));

export const isWrong = (entry) => isMeasured(entry) && truthOf(entry) !== entry.prediction.label;

export const pictures = (count) => `${count.toLocaleString("en")} ${count === 1 ? "picture" : "pictures"}`;
