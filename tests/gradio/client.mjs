// What users of `@gradio/client` see: `node client.mjs URL SCENARIO…`.
//
// It prints a line of JSON for each scenario. What differs from run to run is left out: times, and
// how often a thing was said. `client.py` has the same scenarios.

import { writeFile } from "node:fs/promises";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { Client, handle_file } from "@gradio/client";

const folder = mkdtempSync(join(tmpdir(), "client-"));
process.on("exit", () => rmSync(folder, { recursive: true }));

const connect = (url) => Client.connect(url, { events: ["data", "status", "log"] });

// What a call returns or throws.
async function outcome(client, endpoint, ...args) {
  try {
    return (await client.predict(endpoint, ...args)).data;
  } catch (error) {
    return String(error).replace(/ Valid named endpoints.*/, ""); // those of view_api
  }
}

// Like Promise.all, one after the other.
async function each(calls) {
  const outcomes = {};
  for (const [name, call] of Object.entries(calls)) outcomes[name] = await outcome(...call);
  return outcomes;
}

// A job, and all that it says.
class Story {
  lines = [];
  values = [];
  eta = null;

  constructor(job) {
    this.job = job;
    this.end = this.#listen();
  }

  async #listen() {
    for await (const event of this.job) {
      if (event.type === "data") this.values.push(event.data);
      this.eta = event.eta ?? this.eta;
      const text = line(event);
      if (text !== this.lines.at(-1)) this.lines.push(text);
    }
    return this.lines;
  }

  // Wait until it has said something that contains this.
  async says(text) {
    while (!this.lines.some((said) => said.includes(text))) await pause(5);
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function submit(client, endpoint, ...args) {
  return new Story(client.submit(endpoint, args));
}

// An event in a line.
function line(event) {
  if (event.type === "data") return `data ${JSON.stringify(event.data)}`;
  const said = [event.type, event.stage ?? event.level];
  if (event.original_msg) said.push(event.original_msg);
  if (event.size !== undefined) said.push(`position=${event.position} size=${event.size}`);
  for (const name of [
    ...["progress_data", "code", "success", "title"],
    ...["message", "log", "duration", "visible"],
  ]) {
    if (event[name] !== undefined) said.push(`${name}=${JSON.stringify(event[name])}`);
  }
  return said.join(" ");
}

async function textFile(name, text) {
  await writeFile(join(folder, name), text);
  return handle_file(join(folder, name));
}

const scenarios = {
  // Calls, in all ways to write them.
  async predict(url) {
    const client = await connect(url);
    return each({
      positional: [client, "/add", [1, 2.5]],
      keyword: [client, "/add", { b: 1.5, a: 2 }],
      default: [client, "/add", [0.5]],
      "default of a keyword": [client, "/greet", { name: "Ann" }],
      "without a slash": [client, "add", [1, 2]],
      "number of the function": [client, 0, [0.5, 0.25]],
      "two outputs": [client, "/divide", [17, 5]],
      "no output": [client, "/nothing"],
      "a choice": [client, "/choose", ["red"]],
      "another name": [client, "/hello"],
      "a generator": [client, "/spell", ["abc"]],
    });
  },

  // Values of many shapes, there and back.
  async shapes(url) {
    const client = await connect(url);
    const values = {
      empty: {},
      nested: { a: [1, [2.5, { b: null }], []], "": { "/": { "a.b": true } } },
      numbers: { large: 2 ** 53, small: 5e-324, negative: -1, whole: 1.0 },
      text: { text: 'ä ☃ 𝄞 \u2028 \x00 \n " \\ </script>', long: "x".repeat(20) },
      "like a type": { _type: "gradio.FileData", url: "nowhere" },
      "like an event": { msg: "process_completed", success: false, error: "no" },
    };
    return each(
      Object.fromEntries(
        Object.entries(values).map(([name, value]) => [name, [client, "/echo_json", [value]]]),
      ),
    );
  },

  // Generators: each value as it comes.
  async iterate(url) {
    const client = await connect(url);
    return {
      spell: await submit(client, "/spell", "hello").end,
      grow: await submit(client, "/grow").end,
      empty: await submit(client, "/spell", "").end,
    };
  },

  // Place and time left of those who wait, and how both change.
  async crowd(url) {
    const client = await connect(url);
    await client.predict("/slow", [0.05]); // from now on there is a history
    const stories = [submit(client, "/hold")];
    await stories[0].says("process_starts");
    for (let count = 0; count < 3; count++) {
      stories.push(submit(client, "/hold"));
      await stories.at(-1).says("position=");
    }
    const etas = stories.slice(1).map((story) => story.eta);
    for (let number = 0; number < 4; number++) {
      await stories[number].says("process_starts");
      const waiting = stories.slice(number + 1);
      await Promise.all(waiting.map((story, position) => story.says(`position=${position} `)));
      await client.predict("/release");
    }
    return {
      "time left": etas.map((eta) => eta > 0),
      told: await Promise.all(stories.map((story) => story.end)),
    };
  },

  // Two clients share the queues, and nothing else.
  async two_clients(url) {
    const [one, other] = [await connect(url), await connect(url)];
    const first = submit(one, "/hold");
    await first.says("process_starts");
    const second = submit(other, "/go_through", "other");
    await second.says("position=");
    const words = [submit(one, "/spell", "one"), submit(other, "/spell", "other")];
    await Promise.all(words.map((story) => story.end));
    await one.predict("/release");
    return {
      told: [await first.end, await second.end],
      results: [first, second, ...words].map((story) => story.values.at(-1)),
    };
  },

  // How far a function is.
  async progress(url) {
    return submit(await connect(url), "/steps", 3).end;
  },

  // What a function says on the way.
  async logs(url) {
    return submit(await connect(url), "/notes").end;
  },

  // What goes wrong in a function, and before it is called.
  async errors(url) {
    const client = await connect(url);
    return {
      told: {
        broken: await submit(client, "/broken", "boom").end,
        broken_midway: await submit(client, "/broken_midway").end,
        divide: await submit(client, "/divide", 1, 0).end,
      },
      ...(await each({
        "with words": [client, "/broken", ["boom"]],
        midway: [client, "/broken_midway"],
        "without words": [client, "/divide", [1, 0]],
        "unknown name": [client, "/unknown"],
        hidden: [client, "/secret"],
        "unknown number": [client, 99],
        "too few": [client, "/add", []],
        "too many": [client, "/add", [1, 2, 3]],
        "unknown argument": [client, "/add", { a: 1, c: 2 }],
        "and then": [client, "/add", [1, 2.5]],
      })),
    };
  },

  // Values that are not what the function declares.
  async validation(url) {
    const client = await connect(url);
    return {
      told: await submit(client, "/half", 2.5).end,
      ...(await each({
        checked: [client, "/half", [2.5]],
        "checked, and right": [client, "/half", [3]],
        "no such choice": [client, "/choose", ["blue"]],
        "text for a number": [client, "/add", ["1", "2"]],
        "list for a dict": [client, "/echo_json", [[1]]],
        "nothing for text": [client, "/greet", [null]],
        "number for a bool": [client, "/greet", ["Ann", 1]],
      })),
    };
  },

  // One more than may wait is refused, and the others run.
  async queue_full(url) {
    const [one, other] = [await connect(url), await connect(url)];
    const first = submit(one, "/hold");
    await first.says("process_starts");
    const stories = ["one", "two"].map((name) => submit(other, "/go_through", name));
    for (const story of stories) await story.says("position=");
    const refused = await submit(other, "/go_through", "three").end;
    await first.job.cancel(); // the queue of Gradio has no room left for a call to /release
    await Promise.all(stories.map((story) => story.end));
    return { refused, others: stories.map((story) => story.values) };
  },

  // Files there and back.
  async files(url) {
    const client = await connect(url);
    const quiet = await textFile("quiet words.txt", "grün");
    const [loud] = (await client.predict("/shout", [quiet])).data;
    const answer = await fetch(loud.url);
    const two = [await textFile("a.txt", "a"), handle_file(Buffer.from("b"))];
    return {
      back: {
        ...loud,
        path: basename(loud.path),
        url: loud.url.startsWith(`${url}/gradio_api/file=`),
        type: answer.headers.get("content-type"),
        text: await answer.text(),
      },
      ...(await each({
        blob: [client, "/join_files", [[handle_file(new Blob(["blob"]))]]],
        several: [client, "/join_files", [two]],
        "none of several": [client, "/join_files", [[]]],
        "by name": [client, "/join_files", { files: [await textFile("c.txt", "c")] }],
        "no file": [client, "/shout", ["text"]],
        "an address": [client, "/shout", [handle_file(`${url}/config`)]],
      })),
    };
  },

  // Those that wait for the same function run at once, and each gets its own result.
  async batch(url) {
    const client = await connect(url);
    const first = submit(client, "/hold");
    await first.says("process_starts");
    const words = ["one", "three", "fifteen", ""];
    const stories = words.map((word) => submit(client, "/lengths", word));
    for (const story of stories) await story.says("position=");
    await client.predict("/release");
    await Promise.all(stories.map((story) => story.end));
    return stories.map((story) => story.values);
  },

  // What there is to call.
  async view_api(url) {
    const described = await (await connect(url)).view_api();
    for (const endpoint of Object.values(described.named_endpoints)) {
      delete endpoint.code_snippets; // the same call in other languages
      for (const value of [...endpoint.parameters, ...endpoint.returns]) {
        delete value.example_input; // what Gradio's components bring along
        delete value.description;
        value.python_type.description = "";
      }
    }
    return described;
  },

  // A hundred jobs of one client, while another keeps its stream open.
  async many(url) {
    const client = await connect(url);
    const another = submit(client, "/hold");
    await another.says("process_starts");
    const results = await Promise.all(
      Array.from({ length: 100 }, async (_, number) => {
        return (await client.predict("/crowded", [number])).data[0].split("/").map(Number);
      }),
    );
    await client.predict("/release");
    return {
      "in order": results.every(([number], index) => number === index),
      "at once": Math.max(...results.map(([, atOnce]) => atOnce)),
    };
  },

  // One that waits is cancelled: it never runs, and those of other clients do.
  async cancel_waiting(url) {
    const [one, other] = [await connect(url), await connect(url)];
    const first = submit(one, "/hold");
    await first.says("process_starts");
    const second = submit(other, "/slow", 30);
    await second.says("position=");
    const third = submit(one, "/go_through", "third");
    await third.says("position=");
    await second.job.cancel();
    await one.predict("/release");
    return Promise.all([first.end, third.end]);
  },

  // One that waits is cancelled while another of the same client runs.
  async cancel_sibling(url) {
    const client = await connect(url);
    const running = submit(client, "/hold");
    await running.says("process_starts");
    const waiting = submit(client, "/hold");
    await waiting.says("position=");
    await waiting.job.cancel();
    await (await connect(url)).predict("/release");
    await Promise.race([running.end, pause(3000)]);
    return running.values;
  },

  // One that runs is cancelled: its place is free at once.
  async cancel_running(url) {
    const running = submit(await connect(url), "/slow", 30);
    await running.says("process_starts");
    await running.job.cancel();
    return outcome(await connect(url), "/go_through", ["next"]);
  },

  // Say so when a job runs and another waits, and stay until killed.
  async held(url) {
    const client = await connect(url);
    const running = submit(client, "/hold");
    await running.says("process_starts");
    await submit(client, "/slow", 30).says("position=");
    show("held", "now");
    await pause(60_000);
  },

  // After a client was killed, another gets its turn.
  async back(url) {
    const client = await connect(url);
    await client.predict("/release");
    return outcome(client, "/go_through", ["back"]);
  },
};

function show(scenario, document) {
  console.log(JSON.stringify({ scenario, document }));
}

const [url, ...names] = process.argv.slice(2);
for (const name of names) show(name, await scenarios[name](url));
