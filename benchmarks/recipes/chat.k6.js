// k6: streams of chat at a fixed arrival rate (open loop), judged by the time to the first byte and to
// the whole answer. k6 reads a body as a whole: it cannot tell one token from the next, so there is
// no time per token here; `ballast bench run` has that.
//
//   k6 run -e URL=http://gateway:8080 -e MODEL=qwen3-32b -e RATE=2 -e DURATION=60s chat.k6.js
//
// The key comes from the variable LOAD_TEST_KEY, best a load-test key (docs/load-testing.md).
import http from 'k6/http';
import { check } from 'k6';
import { Counter, Rate, Trend } from 'k6/metrics';

const url = (__ENV.URL || 'http://127.0.0.1:8080').replace(/\/(v1\/?)?$/, '');
const model = __ENV.MODEL || 'qwen3-32b';
const rate = Number(__ENV.RATE || 2);
const words = Number(__ENV.PROMPT_WORDS || 200);
const most = Number(__ENV.MAX_TOKENS || 64);
const key = __ENV.LOAD_TEST_KEY || '';

const firstByte = new Trend('first_byte_ms', true);
const whole = new Rate('answered_whole');
const tokens = new Counter('completion_tokens');

export const options = {
  scenarios: {
    chat: {
      executor: 'constant-arrival-rate',
      rate: Math.max(1, Math.round(rate * 60)),
      timeUnit: '60s',
      duration: __ENV.DURATION || '60s',
      preAllocatedVUs: Math.max(4, Math.ceil(rate * 10)),
      maxVUs: Math.max(50, Math.ceil(rate * 120)),
    },
  },
  thresholds: {
    answered_whole: ['rate>=0.99'],
    first_byte_ms: [`p(95)<=${Number(__ENV.FIRST_MS || 5000)}`],
    dropped_iterations: ['count==0'], // k6 itself could not keep the rate
  },
  summaryTrendStats: ['med', 'p(90)', 'p(95)', 'p(99)', 'max', 'count'],
};

// Another number before the same words: no prefix cache helps.
function prompt() {
  return `${__VU}-${__ITER} ` + 'word '.repeat(words);
}

// The usage of the last event that has one.
function used(body) {
  const found = [...body.matchAll(/"completion_tokens":\s*(\d+)/g)];
  return found.length ? Number(found[found.length - 1][1]) : 0;
}

export default function () {
  const body = JSON.stringify({
    model,
    max_tokens: most,
    stream: true,
    stream_options: { include_usage: true },
    messages: [{ role: 'user', content: prompt() }],
  });
  const headers = { 'content-type': 'application/json' };
  if (key) headers.authorization = `Bearer ${key}`;
  const answer = http.post(`${url}/v1/chat/completions`, body, { headers, timeout: '600s' });
  const text = answer.body || '';
  const isWhole = answer.status === 200 && text.includes('data: [DONE]');
  whole.add(isWhole);
  check(answer, {
    'status is 200': (a) => a.status === 200,
    'the stream has an end': () => isWhole,
  });
  if (isWhole) {
    firstByte.add(answer.timings.waiting);
    tokens.add(used(text));
  }
}
