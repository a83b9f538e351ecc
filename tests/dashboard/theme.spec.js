const { test, expect, isLive } = require("./support");

const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);

test("the theme is that of the system until another is chosen, which stays", async ({ dashboard: page }) => {
  await page.emulateMedia({ colorScheme: "light" });
  const light = await ground(page);
  await page.emulateMedia({ colorScheme: "dark" });
  const dark = await ground(page);
  expect(dark).not.toBe(light);
  const button = page.getByRole("button", { name: /^Theme/ });
  await button.click();
  await expect(button).toHaveText("Light");
  expect(await ground(page)).toBe(light);
  await page.reload();
  await expect(button).toHaveText("Light");
  expect(await ground(page)).toBe(light);
  await button.click();
  await expect(button).toHaveText("Dark");
  await page.emulateMedia({ colorScheme: "light" });
  expect(await ground(page)).toBe(dark);
});

for (const [name, width, height] of [["a phone", 360, 740], ["a wall", 3840, 2160]]) {
  test(`the page is as wide as ${name}`, async ({ dashboard: page }) => {
    await page.setViewportSize({ width, height });
    await isLive(page);
    await expect(page.locator("#routes-body tbody tr").first()).toBeVisible();
    await expect.poll(() => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)).toBe(0);
  });
}
