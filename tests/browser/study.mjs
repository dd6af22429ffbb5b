// Votes through the study's page as a person would: node study.mjs URL CHROMIUM FOLDER
import { createRequire } from 'node:module'

const { chromium } = createRequire(process.cwd() + '/x.js')('playwright-core') // from NODE_PATH
const [url, executablePath, folder] = process.argv.slice(2)

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
const page = await browser.newPage({ viewport: { width: 900, height: 900 }, acceptDownloads: true })
const problems = []
page.on('pageerror', error => problems.push(String(error)))
page.on('console', message => { if (message.type() === 'error') problems.push(message.text()); })
await page.goto(url)
const pairs = []
for (let number = 0; await page.locator('#pair').isVisible(); number += 1) {
  await page.waitForFunction(() => [...document.querySelectorAll('video')].every(video => video.readyState >= 2))
  const early = await page.locator('#next').isEnabled()
  for (const question of ['quality', 'text', 'consistency']) {
    await page.locator(`input[name=${question}][value=${['left', 'same', 'right'][number % 3]}]`).check({ force: true })
  }
  const playing = await page.evaluate(() => [...document.querySelectorAll('video')].map(video => !video.paused))
  if (number === 0) {
    await page.screenshot({ path: `${folder}/study.png` })
    await page.reload()  // what was answered is still there
  }
  const checked = await page.locator('input:checked').count()
  pairs.push({ early, playing, checked, text: await page.locator('#text').textContent() })
  await page.locator('#next').click()
}
const [download] = await Promise.all([page.waitForEvent('download'), page.locator('#download').click()])
await download.saveAs(`${folder}/download.jsonl`)
await page.waitForTimeout(300)
console.log(JSON.stringify({ problems, pairs, done: await page.locator('#done').isVisible() }))
await browser.close()
