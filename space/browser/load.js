// Fetches what the page needs from its own folder, once: the models, the tokenizer and the runtime, kept in the browser's cache.

// Other pages of the same origin may have a cache of their own, and can write to this one.
const CACHE = `expclip ${new URL(".", document.baseURI).pathname}`;

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
      if (kept) {
        const bytes = await readAll(kept, name, () => {});
        if (await isWhole(bytes, files[name])) {
          grow(bytes.length);
          return [name, bytes];
        }
        await cache.delete(address);
      }
      const bytes = await readAll(await fetch(address, kept ? { cache: "reload" } : {}), name, grow);
      if (!(await isWhole(bytes, files[name]))) {
        throw new Error(`${name} is not the file that this page was made with; reload the page`);
      }
      // A full disk is no reason to stop
      await cache?.put(address, new Response(bytes)).catch(() => {});
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

async function isWhole(bytes, { bytes: length, sha256 }) {
  if (bytes.length !== length) return false;
  if (!crypto.subtle) return true; // a page that came over plain http from another machine
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}

export async function unzip(bytes) {
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
