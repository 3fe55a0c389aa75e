// A client in Node: joins a room for each token that stands on a line of its input, and leaves them all at its end.

import { createInterface } from "node:readline";
import { Room, dispose } from "@livekit/rtc-node";

const [url] = process.argv.slice(2);
const rooms = [];
for await (const token of createInterface({ input: process.stdin })) {
  const room = new Room();
  await room.connect(url, token, { autoSubscribe: false, dynacast: false });
  rooms.push(room);
  console.log("joined");
}
await Promise.all(rooms.map((room) => room.disconnect()));
await dispose();
process.exit();
