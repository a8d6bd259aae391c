// SPDX-License-Identifier: Apache-2.0
// Keeps the page alive: asks for the document again and again while somebody looks, and shows it. All
// that comes from outside becomes text, never markup.
"use strict";

const POLL = 2000; // milliseconds between two looks
const RETRY = 4000; // after one that failed
const PATIENCE = 10000; // for an answer
const PAGE = 100; // names that are shown at first, and more each time

const $ = (id) => document.getElementById(id);
const state = { doc: null, etag: "", now: 0, lost: "", paused: false, limit: PAGE, verdicts: new Map(), before: new Map(), timer: 0 };

// Building blocks.

const SVG = "http://www.w3.org/2000/svg";

// el makes an element. Attributes that are false, null or undefined are left out; children are elements or text.
function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

// become changes a node into another in place, so that what is selected or focused stays so.
function become(old, wanted) {
  if (old.nodeType !== wanted.nodeType || old.nodeName !== wanted.nodeName) {
    old.replaceWith(wanted);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== wanted.nodeValue) old.nodeValue = wanted.nodeValue;
    return;
  }
  for (const name of old.getAttributeNames()) if (!wanted.hasAttribute(name)) old.removeAttribute(name);
  for (const name of wanted.getAttributeNames()) {
    if (old.getAttribute(name) !== wanted.getAttribute(name)) old.setAttribute(name, wanted.getAttribute(name));
  }
  show(old, [...wanted.childNodes]);
}

// show gives a node some children. Those with a data-key are found again by it wherever they were.
function show(parent, children) {
  const known = new Map();
  for (const child of parent.children) if (child.dataset.key) known.set(child.dataset.key, child);
  let at = parent.firstChild;
  for (const child of children) {
    const key = child.dataset && child.dataset.key;
    const old = key ? known.get(key) : at && !(at.dataset && at.dataset.key) && at.nodeName === child.nodeName ? at : null;
    if (!old) {
      parent.insertBefore(child, at);
      continue;
    }
    if (old === at) at = at.nextSibling;
    else parent.insertBefore(old, at);
    become(old, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

// Words.

const plural = (n, one, many) => `${n.toLocaleString()} ${n === 1 ? one : many || one + "s"}`;
const percent = (share) => `${Math.round(share * 100)} %`;

function ago(moment) {
  const s = Math.max(0, Math.floor((state.now - Date.parse(moment)) / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}

const when = (moment) => el("time", { datetime: moment, title: date(moment) }, ago(moment));
const clock = (time) => new Date(time).toLocaleTimeString("en-GB"); // 24 hours, whatever the browser speaks
const date = (time) => `${new Date(time).toISOString().slice(0, 16).replace("T", " ")} UTC`;
const milliseconds = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

const MARKS = { up: "✓", down: "✕", unknown: "?" };
const ANSWERS = { fail_open: "fails open", nodata: "answers nodata", servfail: "answers SERVFAIL", fallback: "answers the fallback" };
const STATES = { answers: "in turn", limit: "beyond the limit", drained: "standby", tier: "other tier answers", down: "left out", damped: "left out: it flaps" };

// Parts of the page.

function verdict(of, checked) {
  if (!checked && of === "unknown") return el("td", { role: "cell", class: "verdict unknown", "data-label": "" }, "not checked");
  return el("td", { role: "cell", class: `verdict ${of}` }, el("span", { "aria-hidden": "true" }, `${MARKS[of]} `), of);
}

// sparkline draws the last probes: a bar each, as high as it took long, those that failed in full.
function sparkline(probe) {
  const ms = probe.milliseconds;
  if (!ms.length) return el("span", { class: "quiet" }, probe.note || "no probe yet");
  const failed = new Set(probe.failed), most = Math.max(...ms, 0.001);
  const label = `last ${plural(ms.length, "probe")}: ${milliseconds(Math.min(...ms))} to ${milliseconds(most)}, ${failed.size} failed`;
  const bars = ms.map((took, i) => {
    const height = failed.has(i) ? 20 : Math.max(2, Math.round((took / most) * 20));
    return svg("rect", { class: failed.has(i) ? "fail" : "bar", x: (30 - ms.length + i) * 3, y: 20 - height, width: 2, height });
  });
  return svg("svg", { role: "img", "aria-label": label, viewBox: "0 0 90 20", width: 90, height: 20 }, svg("title", {}, label), bars);
}

function probes(list) {
  return list.map((probe) => {
    const last = probe.milliseconds.length - 1;
    const took = last < 0 ? "" : probe.failed.includes(last) ? " failed" : ` ${milliseconds(probe.milliseconds[last])}`;
    return el("div", { class: "probe", title: probe.check }, sparkline(probe), el("span", { class: probe.failing ? "bad" : "quiet" }, took));
  });
}

// leads draws the share that was served as a bar, and the one that is wanted as a line.
function leads(of, answers) {
  const served = answers ? percent(of.served) : "–";
  const bar = svg("svg", { "aria-hidden": "true", viewBox: "0 0 60 10", width: 60, height: 10 },
    svg("rect", { class: "track", width: 60, height: 10, rx: 2 }),
    svg("rect", { class: "served", width: Math.round(of.served * 60), height: 10, rx: 2 }),
    svg("rect", { class: "wanted", x: Math.min(58, Math.round(of.wanted * 60)), width: 2, height: 10 }));
  return [bar, ` ${served}`, el("span", { class: "quiet" }, `, wanted ${percent(of.wanted)}`)];
}

// votes says how the replicas of the fleet vote on an endpoint.
function votes(of) {
  const voters = of.voters.map((v) => `${v.replica} ${v.vote}${v.counts ? "" : ", which does not count"}`);
  return `votes: ${of.up} up, ${of.down} down${voters.length ? ` (${voters.join("; ")})` : ""}${of.probing ? "" : ", not probed here"}`;
}

function notes(member) {
  const lines = [];
  const over = member.override;
  if (over) {
    const until = over.until ? `, until ${date(over.until)}` : "";
    lines.push(el("div", { class: "doubt" }, `override: ${over.what}${until}${over.why ? `, “${over.why}”` : ""} (${over.where})`));
  }
  if (member.weight_ramp) lines.push(el("div", { class: "quiet" }, `weight: ${member.weight_ramp}`));
  if (member.load_weights) lines.push(el("div", { class: "quiet" }, `load weights: ${member.load_weights}% of its weight`));
  if (member.ramp) lines.push(el("div", { class: "quiet" }, `slow start: ${member.ramp}% of its weight so far`));
  if (member.locality) lines.push(el("div", { class: "quiet" }, `in ${member.locality}`));
  for (const probe of member.probes) {
    if (probe.note) lines.push(el("div", { class: "quiet" }, `${probe.check} ${probe.note}`));
    else if (probe.error && (probe.verdict === "down" || probe.failing)) lines.push(el("div", { class: "bad" }, `${probe.check}: ${probe.error}`));
    else if (probe.error && probe.failed.length) lines.push(el("div", { class: "quiet" }, `${probe.check} was: ${probe.error}`));
    if (probe.votes) lines.push(el("div", { class: probe.votes.differ ? "doubt" : "quiet" }, votes(probe.votes)));
  }
  return lines;
}

// weight writes the weight, and what of it is in force.
function weight(member) {
  const all = member.weight, now = member.weight_in_force;
  return now > 0 && Math.abs(now - Math.max(all, 1)) > 0.005 ? `${Number(now.toPrecision(3))} of ${all}` : String(all);
}

function memberRows(name, member, rule, flash) {
  const checked = rule.checks.length > 0 || member.override;
  const lines = notes(member);
  const row = el("tr", { role: "row", "data-key": `m ${member.member}`, class: flash ? "flash" : null },
    el("th", { role: "rowheader", scope: "row" }, member.member),
    verdict(member.verdict, checked),
    el("td", { role: "cell", "data-label": member.since ? "for" : null }, member.since ? when(member.since) : ""),
    el("td", { role: "cell", class: "wide" }, probes(member.probes)),
    el("td", { role: "cell", class: "number", "data-label": "leads" }, leads(member.leads, name.answers)),
    el("td", { role: "cell", "data-label": "weight" }, weight(member)),
    hasTiers(name) ? el("td", { role: "cell", "data-label": "tier" }, String(member.tier)) : null,
    el("td", { role: "cell", "data-label": "answers" }, STATES[member.state] || member.state));
  if (!lines.length) return [row];
  return [row, el("tr", { role: "row", class: "note", "data-key": `n ${member.member}` }, el("td", { role: "cell", colspan: hasTiers(name) ? 8 : 7 }, lines))];
}

const MEMBER_COLUMNS = ["Member", "Verdict", "For", "Last probes", "Leads in the last minute", "Weight", "Tier", "Answers"];

const hasTiers = (name) => name.members.some((member) => member.tier !== name.members[0].tier);

function memberTable(name, rows) {
  const tiers = hasTiers(name);
  const columns = MEMBER_COLUMNS.filter((column) => column !== "Tier" || tiers);
  return table(columns, rows, `members of ${name.name} ${name.type}`, tiers ? "live members tiered" : "live members");
}

function table(columns, rows, label, classes = "live") {
  return el("table", { role: "table", class: classes, "aria-label": label },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, columns.map((text) => el("th", { role: "columnheader", scope: "col" }, text)))),
    el("tbody", { role: "rowgroup" }, rows));
}

function nameArticle(name, members) {
  const rule = state.doc.rules[name.rule];
  const key = nameKey(name);
  const where = [];
  if (name.section === "additional") where.push("in the additional section");
  if (name.section === "hints") where.push(`hints of priority ${name.priority}`);
  if (name.prefer_line) where.push(`for clients of prefer, line ${name.prefer_line}`);
  where.push(rule.policy, `rule ${rule.zone}`, plural(name.answers, "answer") + " in the last minute");
  const badges = [];
  if (rule.observe) badges.push(el("span", { class: "badge observe" }, "observe: would"), " ");
  if (name.answer !== "members") badges.push(el("span", { class: "badge bad" }, ANSWERS[name.answer] || name.answer), " ");
  if (name.failed_over) badges.push(el("span", { class: "badge bad" }, `failed over to tier ${name.tier}`), " ");
  if (name.failback) badges.push(el("span", { class: "quiet" }, name.failback), " ");
  if (name.down) badges.push(el("span", { class: "bad" }, `${name.down} of ${name.members.length + name.members_omitted} down`), " ");
  const rows = members.flatMap((member) => memberRows(name, member, rule, changed(`${key} ${member.member}`, member.verdict)));
  const omitted = name.members_omitted ? el("p", { class: "quiet" }, `and ${plural(name.members_omitted, "member")} more`) : null;
  return el("article", { class: `name ${name.answer !== "members" ? "alarm" : name.down || name.failed_over ? "hurt" : ""}`, "data-key": key },
    el("h3", {}, name.name, " ", el("span", { class: "type" }, name.type)),
    el("p", { class: "about" }, badges, where.join(" · "), name.section === "hints" ? "" :
      [" · ", el("a", { class: "why", href: `/why?name=${encodeURIComponent(name.name)}&type=${name.type}` }, "why")]),
    memberTable(name, rows), omitted);
}

const nameKey = (name) => [name.rule, name.name, name.type, name.section, name.priority, name.prefer_line].join(" ");

// changed reports whether a verdict differs from the one shown before. Only what is shown is remembered: names come and go.
function changed(key, now) {
  const before = state.before.get(key);
  state.verdicts.set(key, now);
  return before !== undefined && before !== now;
}

function endpointRow(endpoint) {
  const at = `${endpoint.zone} ${endpoint.address} ${endpoint.check}`;
  const error = endpoint.error && (endpoint.verdict === "down" || endpoint.failing) ? endpoint.error : "";
  return el("tr", { role: "row", "data-key": at, class: changed(`e ${at}`, endpoint.verdict) ? "flash" : null },
    el("th", { role: "rowheader", scope: "row" }, endpoint.address),
    verdict(endpoint.verdict, true),
    el("td", { role: "cell", "data-label": "for" }, endpoint.since ? when(endpoint.since) : ""),
    el("td", { role: "cell", class: "wide" }, probes([endpoint])),
    el("td", { role: "cell", class: "wide" }, `${endpoint.zone} ${endpoint.check}`),
    el("td", { role: "cell", class: "wide" }, el("span", { class: "bad" }, error), endpoint.votes ? ` ${votes(endpoint.votes)}` : ""));
}

const yes = (words) => words.filter(Boolean).join(", ");

function replicaRow(replica, self) {
  const notes = yes([replica.name === self && "this one", replica.doubts && "doubts itself", replica.alone && "alone"]);
  return el("tr", { role: "row", "data-key": `r ${replica.name}` },
    el("th", { role: "rowheader", scope: "row" }, replica.name),
    el("td", { role: "cell", "data-label": "in" }, replica.locality || ""),
    el("td", { role: "cell", class: "wide mono" }, replica.address || ""),
    el("td", { role: "cell", "data-label": "seen for" }, when(replica.since)),
    el("td", { role: "cell", "data-label": "votes" }, String(replica.votes)),
    el("td", { role: "cell", class: replica.doubts || replica.alone ? "wide doubt" : "wide" }, notes));
}

// fleet shows who is in the fleet, and what is not agreed on.
function fleet(of) {
  const lines = [el("p", { class: "quiet" }, `${of.name}: ${plural(of.replicas.length + of.replicas_omitted, "replica")}; ${plural(of.probers, "of them probes", "of them probe")} each endpoint`)];
  lines.push(table(["Replica", "Locality", "Address", "Seen for", "Votes", "Notes"], of.replicas.map((replica) => replicaRow(replica, of.replica)), "replicas"));
  if (of.replicas_omitted) lines.push(el("p", { class: "quiet" }, `and ${plural(of.replicas_omitted, "replica")} more`));
  if (of.messages_skipped || of.messages_lost) lines.push(el("p", { class: "quiet" }, `messages between replicas: ${of.messages_skipped} skipped, ${of.messages_lost} lost`));
  for (const check of of.checks) {
    lines.push(el("p", {}, el("code", {}, check.name), `: shared by ${check.replicas}, this one probes ${check.probing} of ${plural(check.endpoints, "endpoint")}`,
      check.differ ? el("span", { class: "doubt" }, `, replicas disagree on ${check.differ}`) : "", check.unvoted ? `, no vote on ${check.unvoted}` : ""));
  }
  for (const check of of.foreign_checks) {
    lines.push(el("p", { class: check.differs ? "doubt" : "quiet" }, `${check.replica} has `, el("code", {}, check.check), check.differs ? " with other options: not shared" : ", not in use here"));
  }
  return lines;
}

// unusedLines shows the lines of a file that applied to no member.
function unusedLines(file) {
  if (file.unused.length === 0) return [];
  const lines = file.unused.map((line) => el("li", {}, el("code", {}, line)));
  if (file.unused_omitted > 0) lines.push(el("li", {}, `and ${file.unused_omitted} more`));
  return [el("p", {}, "Lines of ", el("code", {}, file.path), ` that applied to no member since it was read ${ago(file.since)} ago:`), el("ul", { class: "options" }, lines)];
}

function ruleArticle(rule, i) {
  const lines = [];
  for (const check of rule.checks) {
    lines.push(el("p", {}, el("code", {}, check.name), `: ${check.up} up, ${check.down} down, ${check.unknown} unknown`));
  }
  if (rule.nodes) {
    const state = rule.nodes.synced ? `: ${plural(rule.nodes.count, "node")}` : ": nodes not read yet";
    lines.push(el("p", {}, el("code", {}, rule.nodes.cluster), state, rule.nodes.problem ? el("span", { class: "bad" }, ` ${rule.nodes.problem}`) : ""));
  }
  for (const place of rule.localities ?? []) {
    const leads = place.leads.map((lead) => `${lead.name} ${lead.answers}`).join(", ");
    lines.push(el("p", {}, `clients in ${place.name}: ${plural(place.answers, "answer")}, led by ${leads}`));
  }
  for (const file of rule.files) {
    const state = file.missing ? `: missing${file.problem ? "" : ", as if it were empty"}` : `: read and good ${ago(file.last_success)} ago`;
    lines.push(el("p", {}, el("code", {}, file.path), state, file.problem ? el("span", { class: "bad" }, ` ${file.problem}`) : ""));
    lines.push(...unusedLines(file));
  }
  return el("article", { class: "rule", "data-key": `rule ${i}` },
    el("h3", {}, rule.zone, rule.observe ? [" ", el("span", { class: "badge observe" }, "observe: answers stay as they are")] : ""),
    el("p", { class: "about" }, rule.servers.join(" "), rule.view ? ` view ${rule.view}` : ""),
    el("ul", { class: "options" }, rule.options.map((option) => el("li", {}, el("code", {}, option)))), lines);
}

// Filtering: every word must be somewhere in what is shown of a member, or of the name that it belongs to.

const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
const has = (words, ...parts) => {
  const text = parts.join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
};

function probeText(probe) {
  return [probe.check, probe.verdict, probe.failing ? "failing" : "", probe.error || "", probe.note || ""].join(" ");
}

function matching(name, words) {
  const rule = state.doc.rules[name.rule];
  const about = [name.name, name.type, name.section, name.answer === "members" ? "" : ANSWERS[name.answer], rule.zone, rule.policy, rule.observe ? "observe" : ""].join(" ");
  return name.members.filter((m) => {
    const over = m.override ? `override ${m.override.what} ${m.override.why}` : "";
    return has(words, about, m.member, m.verdict, STATES[m.state] || "", over, ...m.probes.map(probeText));
  });
}

const unchecked = (m) => m.probes.length > 0 && m.probes.every((p) => (p.note || "").startsWith("not probed: outside"));
const troubled = (name) => name.answer !== "members" || name.down > 0 || name.failed_over || name.members.some((m) => m.override || m.probes.some((p) => p.failing) || unchecked(m));

// render shows the document as it is filtered.
function render() {
  const doc = state.doc;
  if (!doc) return;
  [state.before, state.verdicts] = [state.verdicts, new Map()];
  const words = wordsOf($("filter").value), only = $("trouble").checked;
  const found = [];
  for (const name of doc.names) {
    const members = matching(name, words);
    if (members.length && (!only || troubled(name))) found.push([name, members]);
  }
  const shown = found.slice(0, state.limit).map(([name, members]) => nameArticle(name, members));
  if (!found.length) shown.push(el("p", { class: "none" }, doc.names.length ? "No name fits the filter." : "None was asked for yet."));
  show($("names-list"), shown);
  $("more").hidden = found.length <= state.limit;
  $("more").textContent = `Show ${plural(Math.min(PAGE, found.length - state.limit), "more name", "more names")}`;
  const endpoints = doc.endpoints.filter((e) => has(words, e.zone, e.address, probeText(e)) && (!only || e.failing || e.verdict === "down"));
  $("endpoints").hidden = !endpoints.length;
  show($("endpoints-list"), [table(["Endpoint", "Verdict", "For", "Last probes", "Rule and check", "Error"], endpoints.map(endpointRow), "endpoints"),
    el("p", { class: "quiet" }, doc.endpoints_omitted ? `and ${plural(doc.endpoints_omitted, "endpoint")} more` : "")]);
  $("fleet").hidden = !doc.fleet;
  if (doc.fleet) show($("fleet-list"), fleet(doc.fleet));
  show($("rules-list"), doc.rules.map(ruleArticle));
  $("others").textContent = doc.other_rules.length ? `Not shown here, for they have no option status: ${doc.other_rules.join(" ")}` : "";
  const filtered = words.length || only;
  say($("found"), filtered ? `${found.length} of ${plural(doc.names.length, "name")}` : "");
  whose(doc.process);
  summary(doc);
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// whose shows which server this is.
function whose(process) {
  const reload = process.last_reload ? [" · reloaded ", when(process.last_reload), " ago"] : [];
  if (process.last_reload_failed) reload.push(": ", el("span", { class: "bad" }, "failed"));
  const parts = [`${process.host} · ${process.version} · started `, when(process.started), " ago", ...reload];
  show($("process"), parts.map((part) => (typeof part === "string" ? el("span", {}, part) : part)));
}

function summary(doc) {
  const problems = doc.problems.map((p) => el("p", { class: `problem ${p.kind}`, "data-key": `${p.kind} ${p.zone} ${p.text}` }, p.text.startsWith(p.zone) ? "" : [el("strong", {}, p.zone), " "], p.text));
  if (state.lost) problems.unshift(el("p", { class: "problem lost", "data-key": "lost" }, state.lost));
  show($("problems"), problems);
  const sum = { up: 0, down: 0, unknown: 0 };
  for (const rule of doc.rules) for (const check of rule.checks) for (const key of Object.keys(sum)) sum[key] += check[key];
  const hurt = doc.names.filter((name) => name.down).length, observing = doc.rules.filter((rule) => rule.observe).length;
  const parts = [];
  if (sum.up + sum.down + sum.unknown) {
    parts.push("Endpoints: ", el("span", { class: sum.down ? "bad" : "" }, `${sum.down} down`), `, ${sum.up} up, ${sum.unknown} unknown. `);
  }
  parts.push(`${plural(doc.names.length + doc.names_omitted, "name")} in use`, hurt ? `, ${hurt} with members down. ` : ". ", plural(doc.rules.length, "rule"), observing ? `, ${observing} only observing.` : ".");
  show($("sums"), parts.map((part) => (typeof part === "string" ? el("span", {}, part) : part)));
  document.title = sum.down || problems.length ? `✕ ${sum.down} down · balance` : "✓ balance";
}

// Looking again and again.

async function look() {
  clearTimeout(state.timer);
  let pause = POLL;
  try {
    const response = await fetch("/v1/status", { headers: state.etag ? { "If-None-Match": state.etag } : {}, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (response.status !== 304) {
      if (!response.ok) throw new Error(`status ${response.status}`);
      const doc = await response.json();
      if (doc.version !== 1) throw new Error(`a document of version ${doc.version}: load this page again`);
      state.doc = doc;
      state.etag = response.headers.get("ETag") || "";
    }
    state.now = Date.parse(response.headers.get("Date")) || Date.now();
    state.lost = "";
  } catch (problem) {
    pause = RETRY;
    state.lost = `No answer from the server (${problem.message}). What is shown is from ${state.now ? clock(state.now) : "when this page was loaded"}.`;
    if (!state.doc) show($("problems"), [el("p", { class: "problem lost" }, state.lost)]);
  }
  if (!state.paused || !state.doc) render();
  pulse();
  schedule(pause);
}

function schedule(pause) {
  clearTimeout(state.timer);
  if (!document.hidden && !state.paused) state.timer = setTimeout(look, pause);
}

function pulse() {
  $("pulse").classList.toggle("old", Boolean(state.lost));
  const word = state.lost ? "lost, as of" : state.paused ? "paused at" : "live";
  $("pulse").textContent = state.now ? `${word} ${clock(state.now)}` : word;
}

function pauseOrGoOn() {
  state.paused = !state.paused;
  $("pause").textContent = state.paused ? "Go on" : "Pause";
  $("pause").setAttribute("aria-pressed", String(state.paused));
  pulse();
  if (state.paused) clearTimeout(state.timer);
  else look();
}

// The filter is kept in the address, so that a reload and a link keep it.

function restoreFilter() {
  const kept = new URLSearchParams(location.hash.slice(1));
  $("filter").value = kept.get("q") || "";
  $("trouble").checked = kept.get("trouble") === "1";
}

function keepFilter() {
  const kept = new URLSearchParams();
  if ($("filter").value) kept.set("q", $("filter").value);
  if ($("trouble").checked) kept.set("trouble", "1");
  history.replaceState(null, "", kept.size ? `#${kept}` : location.pathname);
  state.limit = PAGE;
  render();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target === $("filter");
  if (event.key === "Escape" && typing && $("filter").value) {
    $("filter").value = "";
    keepFilter();
  } else if (event.key === "/" && !typing) {
    event.preventDefault();
    $("filter").focus();
    $("filter").select();
  } else if (event.key === "p" && !typing) {
    pauseOrGoOn();
  }
}

function begin() {
  const more = el("button", { id: "more", type: "button", class: "more", hidden: "" });
  $("names-list").after(more);
  more.addEventListener("click", () => {
    state.limit += PAGE;
    render();
  });
  for (const id of ["tools", "pause", "keys"]) $(id).hidden = false;
  restoreFilter();
  $("filter").addEventListener("input", keepFilter);
  $("trouble").addEventListener("change", keepFilter);
  $("pause").addEventListener("click", pauseOrGoOn);
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(state.timer);
    else if (!state.paused) look();
  });
  window.addEventListener("hashchange", () => {
    restoreFilter();
    render();
  });
  look();
}

begin();
