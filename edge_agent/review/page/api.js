// Asking the server. Errors carry its words and its status.
export class Failed extends Error {
  constructor(status, said) {
    super(said.error || `the server answered ${status}`);
    this.status = status;
    this.said = said;
  }
}

async function answered(response) {
  if (response.status === 401) location.assign("/login");
  if (!response.ok) throw new Failed(response.status, await response.json().catch(() => ({})));
  return response;
}

// A server that never answers is one that is gone: what waits in line for it must go on.
const GET_MS = 60000;
const POST_MS = 15000;

export async function get(path, parameters = {}, signal = AbortSignal.timeout(GET_MS)) {
  const response = await fetch(`${path}?${new URLSearchParams(parameters)}`, { signal });
  return (await answered(response)).json();
}

export async function bytes(path, parameters) {
  const response = await answered(await fetch(`${path}?${new URLSearchParams(parameters)}`));
  return { whole: response.headers.get("x-whole") === "1", data: await response.arrayBuffer() };
}

export async function text(path, parameters) {
  return (await answered(await fetch(`${path}?${new URLSearchParams(parameters)}`))).text();
}

export async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-edge-agent": "1" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(POST_MS),
  });
  return (await answered(response)).json();
}

// crypto.randomUUID is not to be had over plain HTTP beyond loopback.
export function token() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Names come from files and devices: what turns the direction of writing around, or is no character at all, is shown as such.
export const shown = (name) => String(name).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\ufffd").slice(0, 300);
