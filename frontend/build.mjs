// Bundle the portal's scripts, styles and icons: node build.mjs OUTPUT
// Every file's name holds a digest of its content; manifest.json maps plain names to them.
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, extname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, gzipSync } from "node:zlib";
import { build } from "esbuild";
import { PurgeCSS } from "purgecss";

const HERE = dirname(fileURLToPath(import.meta.url));
const HOUSE = join(HERE, "..", "src", "millpond");
const PLACE = process.argv[2] ?? join(HOUSE, "web", "static");
const OUTPUT = `${PLACE}.new`; // Takes the other's place when it is whole.
const CLASSIC = new Set(["theme.js"]); // Runs before the first paint, so it is no module.
const ICON = /\bicon(?:_name)?(?:\(|=|:)\s*["']([a-z0-9-]+)["']/g;

async function walk(folder) {
  const found = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found.push(...(await walk(path)));
    else found.push(path);
  }
  return found;
}

async function bundle(entries, more) {
  const result = await build({
    entryPoints: entries,
    outdir: OUTPUT,
    entryNames: "[name]-[hash]",
    chunkNames: "[name]-[hash]",
    assetNames: "[name]-[hash]",
    bundle: true,
    minify: true,
    legalComments: "none",
    target: ["es2021", "chrome100", "firefox100", "safari15.4"],
    metafile: true,
    logLevel: "warning",
    absWorkingDir: HERE,
    ...more,
  });
  const named = {};
  for (const [path, output] of Object.entries(result.metafile.outputs)) {
    if (output.entryPoint) named[basename(output.entryPoint)] = basename(path);
  }
  return named;
}

// Of Tabler's rules only those that some template, page or script can use.
async function purged() {
  const places = (await walk(HOUSE)).filter(
    (path) => extname(path) === ".html" || /[\\/](pages|drawing)\.py$/.test(path),
  );
  const [found] = await new PurgeCSS().purge({
    content: [...places, ...(await walk(join(HERE, "src")))],
    css: [join(HERE, "node_modules", "@tabler", "core", "dist", "css", "tabler.min.css")],
    safelist: { greedy: [/data-bs-theme/] },
  });
  return found.css;
}

const needed = {
  name: "needed",
  setup(bundler) {
    bundler.onLoad({ filter: /tabler\.min\.css$/ }, async () => ({
      contents: await purged(),
      loader: "css",
    }));
  },
};

// One symbol for each icon that a template or a page's code names.
async function sprite() {
  const names = new Set();
  for (const path of await walk(HOUSE)) {
    if (extname(path) !== ".html" && basename(path) !== "pages.py") continue;
    for (const [, name] of (await readFile(path, "utf8")).matchAll(ICON)) names.add(name);
  }
  const folder = join(HERE, "node_modules", "@tabler", "icons", "icons", "outline");
  const symbols = [];
  for (const name of [...names].sort()) {
    let text;
    try {
      text = await readFile(join(folder, `${name}.svg`), "utf8");
    } catch {
      throw new Error(`A template names the icon "${name}", which @tabler/icons does not have.`);
    }
    const inner = text.replace(/^[\s\S]*?<svg[^>]*>/, "").replace(/<\/svg>\s*$/, "").trim();
    symbols.push(
      `<symbol id="${name}" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2"` +
        ` stroke-linecap="round" stroke-linejoin="round">${inner}</symbol>`,
    );
  }
  const text = `<svg xmlns="http://www.w3.org/2000/svg">${symbols.join("")}</svg>\n`;
  const digest = createHash("sha256").update(text).digest("hex").slice(0, 8).toUpperCase();
  await writeFile(join(OUTPUT, `icons-${digest}.svg`), text);
  return { "icons.svg": `icons-${digest}.svg` };
}

await rm(OUTPUT, { recursive: true, force: true });
await mkdir(OUTPUT, { recursive: true });
const sources = (await readdir(join(HERE, "src"))).filter((name) => /\.(js|css)$/.test(name));
const entries = (names) => names.map((name) => join("src", name));
const manifest = {
  ...(await bundle(entries(sources.filter((name) => !CLASSIC.has(name))), {
    format: "esm",
    splitting: true,
    plugins: [needed],
  })),
  ...(await bundle(entries(sources.filter((name) => CLASSIC.has(name))), { format: "iife" })),
  ...(await sprite()),
};
for (const path of await walk(OUTPUT)) {
  const packed = gzipSync(await readFile(path), { level: constants.Z_BEST_COMPRESSION });
  await writeFile(`${path}.gz`, packed);
}
await writeFile(join(OUTPUT, "manifest.json"), `${JSON.stringify(manifest, null, 1)}\n`);
await rm(PLACE, { recursive: true, force: true });
await rename(OUTPUT, PLACE);
console.log(`${Object.keys(manifest).length} assets in ${relative(process.cwd(), PLACE) || "."}`);
