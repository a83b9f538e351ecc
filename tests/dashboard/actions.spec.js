const { test, expect, section, isLive, confirm } = require("./support");

test.describe("with a token that is wrong at first", () => {
  test.use({ allowed: ["401 (Unauthorized)"] });

  test("a key of a limit is reset", async ({ dashboard: page }) => {
    await isLive(page);
    const login = section(page, "Rate limits and their top keys").getByRole("article", { name: "/login" });
    const button = login.getByRole("button", { name: "Reset 127.0.0.1 of /login" });
    await button.click();
    await confirm(page, "Reset", "guessed");
    await expect(page.getByRole("dialog").getByRole("alert")).toHaveText("This is not the token that admin.token asks for.");
    await confirm(page, "Reset");
    await expect(page.locator("#said")).toHaveText("Done: 127.0.0.1 of /login: reset.");
    // The token is known now: only the question is left.
    await button.click();
    await expect(page.getByRole("dialog").getByText("It begins anew at /login")).toBeVisible();
    await expect(page.getByRole("dialog").getByLabel("Admin token").and(page.locator("input"))).toBeHidden();
    await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
    await page.getByRole("button", { name: "Forget token" }).click();
    await expect(page.locator("#said")).toHaveText("The token is forgotten.");
    await expect(page.getByRole("button", { name: "Token", exact: true })).toBeVisible();
  });
});

test("the configuration is reloaded", async ({ dashboard: page }) => {
  await isLive(page);
  await page.getByRole("button", { name: "Reload config" }).click();
  await confirm(page, "Reload");
  await expect(page.locator("#said")).toHaveText(/^In force: generation \d+\.$/);
});

test("what is cancelled is not done", async ({ dashboard: page }) => {
  await isLive(page);
  const asked = [];
  page.on("request", (request) => {
    if (request.method() !== "GET") asked.push(request.url());
  });
  await page.getByRole("button", { name: "Reload config" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await expect(page.getByRole("dialog")).toBeHidden();
  expect(asked).toEqual([]);
});

test("an endpoint is drained and enabled, and a circuit opened by hand", async ({ dashboard: page }) => {
  await isLive(page);
  const shop = section(page, "Services").getByRole("article", { name: "shop" });
  const endpoint = shop.locator("tbody tr").first();
  await endpoint.getByRole("button", { name: /^Drain/ }).click();
  await confirm(page, "Drain");
  await expect(endpoint).toContainText("drained");
  await endpoint.getByRole("button", { name: /^Enable/ }).click();
  await confirm(page, "Enable");
  await expect(endpoint).toContainText("healthy");

  const payments = section(page, "Services").getByRole("article", { name: "payments" });
  await payments.getByRole("button", { name: /^Open circuit/ }).click();
  await confirm(page, "Open circuit");
  await expect(payments).toContainText("circuit open, by hand");
  await payments.getByRole("button", { name: /^Automatic/ }).click();
  await confirm(page, "Automatic");
  await expect(payments).not.toContainText("by hand");
});

test("kept answers are purged", async ({ dashboard: page }) => {
  await isLive(page);
  const kept = section(page, "Kept answers");
  await expect(kept.getByText(/^[1-9]\d* answers? in /)).toBeVisible();
  await kept.getByLabel("Purge by").selectOption("all");
  await kept.getByRole("button", { name: "Purge" }).click();
  await confirm(page, "Purge");
  await expect(page.locator("#said")).toHaveText("Done: purged: all kept answers.");
});
