// What each Node program here shares, as telling.py does for Python.

import assert from "node:assert/strict";

export const URL = process.env.CLIENT_URL;
export const KEY = process.env.CLIENT_KEY;
export const OWN = "m", API = "api", VECTORS = "vectors";
export const QUESTION = "What is the weather in Shanghai?";
export const ANSWER = "sunny, 23 degrees";
export const CALLED = { city: "上海", days: 3 };

export const words = (text) => text.trim().split(/\s+/).length;

export async function told(checks) {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    let fault = "";
    try {
      await check();
    } catch (error) {
      console.error(error);
      fault = String(error).slice(0, 500);
      failed += 1;
    }
    console.log(JSON.stringify({ check: name, fault }));
  }
  process.exit(failed ? 1 : 0);
}

export { assert };
