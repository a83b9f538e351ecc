// What all tests of the dashboard have: a page on which nothing may go wrong unseen.
const base = require("@playwright/test");

const TOKEN = process.env.DASHBOARD_TOKEN;

/** The page, open and live. Whatever is written to its console as an error fails the test. */
const test = base.test.extend({
  allowed: [[], { option: true }],
  dashboard: async ({ page, allowed }, use) => {
    const wrong = [];
    page.on("console", (message) => {
      const text = `${message.text()} ${message.location().url}`;
      if (message.type() === "error" && !allowed.some((it) => text.includes(it))) wrong.push(text);
    });
    page.on("pageerror", (error) => wrong.push(error.stack));
    page.on("request", (request) => {
      if (!request.url().startsWith(process.env.DASHBOARD)) wrong.push(`asked elsewhere: ${request.url()}`);
    });
    await page.goto("/");
    await use(page);
    base.expect(wrong, "errors on the console").toEqual([]);
  },
});

/** The section of a title. */
function section(page, title) {
  return page.getByRole("region", { name: title, exact: true });
}

/** Waits until events come. */
async function isLive(page) {
  await base.expect(page.locator("#connection")).toHaveText("Live");
}

/** Confirms what the dialog asks, with the token if it asks for that. */
async function confirm(page, button, token = TOKEN) {
  const dialog = page.getByRole("dialog");
  await base.expect(dialog).toBeVisible();
  const input = dialog.getByLabel("Admin token");
  if (await input.isVisible()) await input.fill(token);
  await dialog.getByRole("button", { name: button }).click();
}

module.exports = { test, expect: base.expect, section, isLive, confirm, TOKEN };
