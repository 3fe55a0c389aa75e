// Completing a configuration as it is typed, from its JSON Schema: which keys may stand here, or which values. Pure.

/** Return what may stand at the caret: `from` and `to` in the text, and `offers` with a label, a hint and what to insert. */
export function completed(text, caret, schema) {
  const place = where(text, caret);
  if (!place) return { from: caret, to: caret, offers: [] };
  const { stack, key, from, to, typed } = place;
  let nodes = expanded([schema], schema);
  for (const frame of key ? stack.slice(0, -1) : stack) nodes = expanded(stepped(nodes, frame), schema);
  const after = text.slice(to);
  const found = key ? keys(nodes, stack.at(-1).keys, schema, after) : constants(nodes);
  const wanted = typed.toLowerCase();
  const fits = found.filter((each) => each.label.toLowerCase().includes(wanted) && each.label !== typed);
  fits.sort((a, b) => !a.label.toLowerCase().startsWith(wanted) - !b.label.toLowerCase().startsWith(wanted));
  return { from, to, typed, offers: fits.slice(0, 40) };
}

/** Return where the caret is: the open brackets with their keys, and what of a key or a value is typed already. */
function where(text, caret) {
  const stack = [];
  const take = (word) => {
    const top = stack.at(-1);
    if (!top) return;
    if (top.expects === "key") { top.key = word; top.keys.push(word); top.expects = "colon"; } else top.expects = "comma";
  };
  const found = (from, to, typed) => {
    const expects = stack.at(-1)?.expects ?? "value";
    return expects === "key" || expects === "value" ? { stack, key: expects === "key", from, to, typed } : null;
  };
  for (let at = 0; at < caret;) {
    const sign = text[at];
    const word = /^(?:"(?:[^"\\\n]|\\.)*"?|[^\s,:{}[\]"]+)/.exec(text.slice(at))?.[0];
    if (word) {
      if (at + word.length > caret || (at + word.length === caret && !(word.length > 1 && word.endsWith('"')))) {
        return found(at, at + word.length, text.slice(at, caret).replaceAll('"', ""));
      }
      take(word.replaceAll('"', ""));
      at += word.length;
      continue;
    }
    const top = stack.at(-1);
    if (sign === "{") stack.push({ kind: "{", expects: "key", keys: [] });
    else if (sign === "[") stack.push({ kind: "[", expects: "value", keys: [] });
    else if (sign === "}" || sign === "]") { stack.pop(); if (stack.length) stack.at(-1).expects = "comma"; }
    else if (sign === ":" && top) top.expects = "value";
    else if (sign === "," && top) top.expects = top.kind === "{" ? "key" : "value";
    at += 1;
  }
  return found(caret, caret, "");
}

function expanded(nodes, schema) {
  return nodes.filter((node) => node && typeof node === "object").flatMap((node) => {
    const named = node.$ref ? node.$ref.split("/").slice(1).reduce((inner, step) => inner?.[step], schema) : undefined;
    return [node, ...expanded([named, ...(node.allOf ?? []), ...(node.anyOf ?? []), ...(node.oneOf ?? [])], schema)];
  });
}

function stepped(nodes, frame) {
  return nodes.map((node) => (frame.kind === "[" ? node.items : node.properties?.[frame.key] ?? node.additionalProperties));
}

function keys(nodes, there, schema, after) {
  const found = new Map();
  for (const node of nodes) {
    for (const [name, inner] of Object.entries(node.properties ?? {})) {
      if (found.has(name) || there.includes(name) || typeof inner !== "object") continue;
      const value = /^\s*:/.test(after) ? "" : `: ${stub(expanded([inner], schema))}`;
      found.set(name, { label: name, insert: `${JSON.stringify(name)}${value}`, hint: hint(inner.description) });
    }
  }
  return [...found.values()];
}

function constants(nodes) {
  const found = nodes.flatMap((node) => [...(node.enum ?? []), ...("const" in node ? [node.const] : []), ...(node.type === "boolean" || node.type?.includes?.("boolean") ? [true, false] : []), ...("default" in node ? [node.default] : []), ...(node.examples ?? [])]);
  const texts = [...new Set(found.map((value) => JSON.stringify(value)))];
  return texts.map((text) => ({ label: text.replace(/^"(.*)"$/, "$1"), insert: text, hint: "" }));
}

/** Return a value to begin with. */
function stub(nodes) {
  const node = nodes.find((each) => "default" in each) ?? {};
  if (node.default !== undefined && (typeof node.default !== "object" || node.default === null)) return JSON.stringify(node.default);
  const is = (type) => nodes.some((each) => each.type === type || each.type?.includes?.(type));
  return is("object") ? "{}" : is("array") ? "[]" : is("string") ? '""' : "";
}

function hint(text = "") {
  return text.split(/(?<=\.)\s/)[0].replaceAll("`", "");
}
