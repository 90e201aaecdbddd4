// Numbers for people.

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds === 0) return "0 s";
  if (seconds >= 7200) return `${(seconds / 3600).toFixed(1)} h`;
  if (seconds >= 120) return `${(seconds / 60).toFixed(1)} min`;
  if (seconds >= 1) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
}

export function bytes(number) {
  if (number === null || number === undefined) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) { number /= 1024; unit += 1; }
  return `${number.toFixed(unit && number < 100 ? 1 : 0)} ${units[unit]}`;
}

export function gibHours(mibSeconds) {
  const value = mibSeconds / 1024 / 3600;
  return `${value.toFixed(value >= 100 ? 0 : value >= 1 ? 2 : 4)} GiB·h`;
}

export function count(number) {
  return number.toLocaleString("en", { maximumFractionDigits: 1 });
}

// The person's own time; the day only where it is another than today.
export function moment(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const time = new Date(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  if (time.toDateString() === new Date().toDateString()) return clock;
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${clock}`;
}

// The last part of a key or a path.
export function base(name) {
  return name.split("/").at(-1) || name;
}
