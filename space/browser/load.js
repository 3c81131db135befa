// Fetches what the page needs from its own folder, once: the models, the tokenizer and the runtime, kept in the browser's cache.

const CACHE = "expclip";

// The files that model/about.json lists -> their bytes by name. `told(done, all)` hears of each step, in bytes.
export async function loadFiles(files, told) {
  const all = Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  const cache = await globalThis.caches?.open(CACHE).catch(() => null);
  const wanted = Object.entries(files).map(([name, { sha256 }]) => [name, new URL(`${name}?${sha256}`, document.baseURI).href]);
  const loaded = await Promise.all(
    wanted.map(async ([name, address]) => {
      const grow = (bytes) => told((done += bytes), all);
      const kept = await cache?.match(address);
      const bytes = await readAll(kept ?? (await fetch(address)), name, grow);
      await check(bytes, files[name], name);
      // A full disk is no reason to stop
      if (!kept) await cache?.put(address, new Response(bytes)).catch(() => {});
      return [name, bytes];
    }),
  );
  const current = new Set(wanted.map(([, address]) => address));
  for (const { url } of (await cache?.keys()) ?? []) if (!current.has(url)) await cache.delete(url);
  return Object.fromEntries(loaded);
}

async function readAll(response, name, grow) {
  if (!response.ok) throw new Error(`${name} could not be loaded: the server answered ${response.status}`);
  const parts = [];
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    grow(value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function check(bytes, { bytes: length, sha256 }, name) {
  let same = bytes.length === length;
  if (same && crypto.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    same = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
  }
  if (!same) throw new Error(`${name} is not the file that this page was made with; reload the page`);
}

export async function unzip(bytes) {
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
